"""Changes of bytes, and of text by its tokens so that most of it still parses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from random import Random

NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
LONGEST = 400_000  # bytes that an input may grow to
CHANGES = 4  # of one input, at most

DEEP = (b"[" * 100_000, b'{"a":' * 50_000, b"[" * 990 + b"]" * 990)
"""Nesting that a parser must refuse, or survive."""

WORDS = (
    b"null", b"true", b"false", b"0", b"1", b"-1", b"2", b"3", b"255", b"65536", b"0.5", b"-0.0", b"1e999", b"-1e999",
    b"NaN", b"Infinity", b"9223372036854775808", b"18446744073709551616", b"1" + b"0" * 30, b"9" * 5000, b"1e308",
    b'""', b'"x"', b'"../../victim"', b'"/nowhere/victim"', b'"\\u0000"', b'"\\ud800"', b'"\\u001b]0;x\\u0007"',
    b'"' + b"a" * 5000 + b'"', b'"uint8"', b'"object"', b'"ffv1"', b'"hevc"', b'"upscaled"', b'"lost-at-source"',
    b"[]", b"{}", b"[1]", b"[0,0]", b"[-1,5]", b"[1,2,3]", b"[1e9,1e9]", b"[1000000,1000000]", b'["a","b"]',
    b'{"a":1}', b"[[1,2],[3,4]]", b'{"x":{"y":[]}}', b"[" * 200 + b"]" * 200,
)  # fmt: skip
"""JSON values that a field may not expect."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+\w.]+|\s+|.', re.DOTALL)
_CLOSING = {b"[": b"]", b"{": b"}"}


def flip(rng: Random, data: bytes) -> bytes:
    """``data`` with a few bytes or runs of bytes changed, put in, left out, repeated."""
    changed = bytearray(data)
    for _ in range(1 + int(rng.random() * CHANGES)):
        if not changed:
            changed += rng.randbytes(16)
        size = len(changed)
        # headers, where most of the meaning is, as often as all else
        at = int(rng.random() * (size if rng.random() < 0.5 else min(size, 64)))
        kind, run = int(rng.random() * 8), 1 + int(rng.random() ** 3 * 200)
        if kind == 0:
            changed[at] ^= 1 << int(rng.random() * 8)
        elif kind == 1:
            changed[at] = int(rng.random() * 256)
        elif kind == 2:
            width = 1 << int(rng.random() * 4)
            number = NUMBERS[int(rng.random() * len(NUMBERS))] & ((1 << 8 * width) - 1)
            changed[at : at + width] = number.to_bytes(width, "big" if rng.random() < 0.5 else "little")
        elif kind == 3:
            del changed[at : at + run]
        elif kind == 4:
            changed[at:at] = rng.randbytes(min(run, 32))
        elif kind == 5:
            del changed[at:]
        else:
            start = int(rng.random() * size)
            changed[at : at + (0 if kind == 6 else run)] = changed[start : start + run]
    return bytes(changed[:LONGEST])


def reword(rng: Random, data: bytes, words: Sequence[bytes] = WORDS) -> bytes:
    """``data``, a text such as JSON or TOML, with a few of its values or names replaced, repeated, left out."""
    tokens = list(_tokens(data))
    for _ in range(1 + int(rng.random() * CHANGES)):
        if not tokens:
            break
        at = int(rng.random() * len(tokens))
        while at + 1 < len(tokens) and not _means(tokens[at]):
            at += 1
        end, kind = _end(tokens, at), rng.random()
        if kind < 0.6:
            tokens[at:end] = [words[int(rng.random() * len(words))]]
        elif kind < 0.75:
            other = int(rng.random() * len(tokens))
            tokens[at:end] = tokens[other : _end(tokens, other)]
        elif kind < 0.9:
            del tokens[at : end + 1]
        else:
            tokens[at:at] = tokens[at : end + 1]
    return b"".join(tokens)[:LONGEST]


@lru_cache(maxsize=256)
def _tokens(data: bytes) -> tuple[bytes, ...]:
    return *_TOKEN.findall(data[:20_000]), data[20_000:]


def _means(token: bytes) -> bool:
    return token[:1] not in b" \t\r\n,:=]}"


def _end(tokens: Sequence[bytes], at: int) -> int:
    """Behind the value that begins at ``at``: one token, or a list or table with all that is in it."""
    opening = tokens[at]
    closing, depth = _CLOSING.get(opening), 0
    if closing is None:
        return at + 1
    for place in range(at, len(tokens)):
        depth += (tokens[place] == opening) - (tokens[place] == closing)
        if not depth:
            return place + 1
    return at + 1
