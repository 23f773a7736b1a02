"""Sessions from elsewhere: the manifest, the lines, the videos."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from clesr.pipeline.session.format import FRAMES, MANIFEST, RAW, SR, format_manifest, hash_bytes
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.verify import verify
from clesr.pipeline.sources.registry import open_source
from clesr.tools.commands import verify as verify_command
from clesr.tools.commands.info import describe
from clesr.tools.export.selection import Selection
from clesr.tools.export.sessions import session_clip
from clesr.tools.render_run import recorded_prepare
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target, drain
from fuzz.targets import CORPUS

WHOLE = CORPUS / "session"  # a session of six frames
_HASH = re.compile(rb'("hash": ")[0-9a-f]{64}(")')
_CHAIN = b',"chain":"'
ZEROS = b"0" * 64


class SessionTarget(Target):
    """A first byte that says what is done with the session, then the file ``name`` in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.session = folder / "session"
        self._restore()

    def use(self, how: int) -> None:
        """What a user may do with the session."""
        USES[how % len(USES)](self.session)

    def place(self, name: str, content: bytes, *, cut_off: bool = False) -> None:
        """Put ``content`` in the place of the file; ``cut_off``: the recording was not closed."""
        if cut_off and name != MANIFEST:
            info = read_session(WHOLE).info
            (self.session / MANIFEST).write_bytes(
                format_manifest(replace(info, closed=False, totals=None, files=None, lines=None, chain=None))
            )
        (self.session / name).write_bytes(content)

    def _restore(self, *names: str) -> None:
        if names:
            for name in names:
                shutil.copyfile(WHOLE / name, self.session / name)
            return
        shutil.rmtree(self.session, ignore_errors=True)
        shutil.copytree(WHOLE, self.session)

    def tried(self, name: str, content: bytes, how: int) -> None:
        """Use a session whose file ``name`` has ``content``."""
        repairs = USES[how % len(USES)] is _repair
        self.place(name, content, cut_off=repairs)
        try:
            self.use(how)
        finally:
            self._restore(*(() if repairs else (name,)))


class Manifest(SessionTarget):
    """``session.json``, whose hash is made right."""

    def seeds(self) -> list[bytes]:
        whole = (WHOLE / MANIFEST).read_bytes()
        cut_off = whole.replace(b'"closed": true', b'"closed": false')
        uses = range(len(USES))
        return [bytes([how]) + text for how in uses for text in (whole, cut_off, *DEEP)]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        how = bytes([int(rng.random() * 2 * len(USES))])
        return how + (flip if rng.random() < 0.2 else reword)(rng, data[1:])

    def run(self, data: bytes) -> None:
        text = _HASH.sub(rb"\g<1>" + ZEROS + rb"\g<2>", data[1:])
        right = _HASH.sub(rb"\g<1>" + hash_bytes(text).encode() + rb"\g<2>", text)
        self.tried(MANIFEST, right, data[0] if data else 0)


class Lines(SessionTarget):
    """``frames.jsonl``, whose chain of hashes is made right."""

    def seeds(self) -> list[bytes]:
        whole = (WHOLE / FRAMES).read_bytes()
        deep = [b'{"number":0,"captured_ns":' + text + _CHAIN + ZEROS + b'"}\n' for text in DEEP]
        return [bytes([how]) + text for how in range(len(USES)) for text in (whole, *deep)]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        how = bytes([int(rng.random() * 2 * len(USES))])
        if rng.random() < 0.15:
            return how + flip(rng, data[1:])
        lines = data[1:].splitlines(keepends=True) or [b"\n"]
        for _ in range(1 + int(rng.random() * 3)):
            at, kind = int(rng.random() * len(lines)), rng.random()
            if kind < 0.8:
                body, found, tail = lines[at].rpartition(_CHAIN)
                lines[at] = reword(rng, body + b"}")[:-1] + found + tail if found else reword(rng, tail)
            elif kind < 0.9:
                lines[at:at] = [lines[int(rng.random() * len(lines))]]
            elif len(lines) > 1:
                del lines[at]
        return how + b"".join(lines)

    def run(self, data: bytes) -> None:
        previous, lines = read_session(WHOLE).info.id, []
        for line in data[1:].splitlines(keepends=True):
            body, found, tail = line.rpartition(_CHAIN)
            if found:
                previous = hash_bytes(previous.encode(), body)
                tail = previous.encode() + b'"}\n'
            lines.append(body + found + tail)
        self.tried(FRAMES, b"".join(lines), data[0] if data else 0)


class Video(SessionTarget):
    """``raw.mkv`` or ``sr.mkv``: the lowest bit of the first byte says which."""

    def seeds(self) -> list[bytes]:
        files = [(WHOLE / RAW).read_bytes(), (WHOLE / SR).read_bytes()]
        return [bytes([2 * how + which]) + files[which] for how in range(len(USES)) for which in (0, 1)]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        how = 2 * int(rng.random() * len(USES)) + (data[0] & 1 if data else 0)
        return bytes([how]) + flip(rng, data[1:])

    def run(self, data: bytes) -> None:
        how = data[0] if data else 0
        self.tried((RAW, SR)[how & 1], data[1:], how >> 1)


def _verify(session: Path) -> None:
    certificate = verify(session)
    verify_command.describe(certificate)
    json.dumps(certificate.as_json())


def _info(session: Path) -> None:
    json.dumps(describe(str(session)))


def _replay(session: Path) -> None:
    drain(open_source(str(session), pace="max"))


def _repair(session: Path) -> None:
    repair(session)
    verify(session)


def _export(session: Path) -> None:
    for kind in ("raw", "sr"):
        clip = session_clip(
            read_session(session),
            kind,
            Selection(),
            pixel_um=None,
            dated=True,
            named=True,
        )
        for still in clip.stills:
            still.image.sum()


def _render(session: Path) -> None:
    recorded_prepare(read_session(session))


USES: tuple[Callable[[Path], None], ...] = (_verify, _info, _replay, _repair, _export, _render)
