"""What takes long to make, kept on disk: compiled engines, and which engine was the fastest.

A file holds its key and ends with a checksum over all of it. One that is cut, altered or made for something else is
never used: :meth:`Cache.read` logs why in one line, and what it held is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clesr.engines.common.errors import SinkError, UsageError, printable, told_as
from clesr.engines.common.files import OWN, make_parents, write_file
from clesr.engines.common.parsing import parse_json, read_bounded, unreadable

log = logging.getLogger(__name__)
VARIABLE = "CLESR_CACHE_DIR"
MAGIC = b"clesr cache 1\n"
DIGEST = hashlib.sha256().digest_size
LENGTH = 4  # bytes of the key's length
LONGEST_KEY = 65536
LARGEST = 4 << 30  # bytes of a file

Key = Mapping[str, str]


def cache_folder() -> Path:
    """CLESR_CACHE_DIR, else the user's cache folder; it need not exist.

    Raises UsageError where the user has no home folder, as services may have none.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        import platformdirs
    except ModuleNotFoundError:  # a bare GPU machine
        return Path.home() / ".cache" / "clesr"
    with told_as(
        UsageError, f"this user has no home folder to keep files in; set {VARIABLE} to a folder", RuntimeError
    ):
        return Path(platformdirs.user_cache_dir("clesr"))


@dataclass(frozen=True, slots=True)
class Cache:
    """Files of one kind in ``folder``. ``what`` names one of them for the user, ``suffix`` ends its name.

    Several processes may read and write at once: a file appears whole or not at all, and the last one written stays.
    """

    folder: Path
    what: str
    suffix: str

    def path(self, name: str, key: Key) -> Path:
        """Where the file for ``key`` is; ``name`` is for people who look into the folder."""
        readable = re.sub(r"[^\w.-]+", "-", name)
        digest = hashlib.sha256(_encode(key)).hexdigest()[:16]
        return self.folder / f"{readable}-{digest}{self.suffix}"

    def read(self, name: str, key: Key) -> bytes | None:
        """What was written for ``key``; None, and a warning unless there is simply no file, where there is nothing to
        be trusted."""
        path = self.path(name, key)
        try:
            content = read_bounded(path, LARGEST)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning(f"{self.what} {path} is not used: it {unreadable(error)}")
            return None
        try:
            found, payload = unpack(content)
            if found != dict(key):
                raise ValueError(_differences(found, key))
        except ValueError as error:
            log.warning(f"{self.what} {path} is not used: {error}")
            return None
        return payload

    def write(self, name: str, key: Key, payload: bytes) -> bool:
        """Keep ``payload`` for ``key``; False, and a warning, where the disk does not take it."""
        path = self.path(name, key)
        try:
            make_parents(path)
            write_file(path, pack(key, payload), OWN)
        except SinkError as error:
            reason = getattr(error.__cause__, "strerror", None) or error
            log.warning(
                f"{self.what} cannot be kept in {self.folder} ({reason}) and is made anew each time; "
                f"set {VARIABLE} to a folder with free space"
            )
            return False
        return True


def pack(key: Key, payload: bytes) -> bytes:
    """A file's content: magic, length of the key, key as JSON, payload, SHA-256 of all that."""
    head = _encode(key)
    body = MAGIC + len(head).to_bytes(LENGTH, "little") + head + payload
    return body + hashlib.sha256(body).digest()


def unpack(content: bytes) -> tuple[dict[str, str], bytes]:
    """Key and payload of what :func:`pack` made. Raises ValueError, whose text says what is wrong, for all else."""
    if not content.startswith(MAGIC):
        raise ValueError("it is empty" if not content else "it was not written by this version of clesr")
    body, digest = content[:-DIGEST], content[-DIGEST:]
    start = len(MAGIC) + LENGTH
    if len(body) < start or hashlib.sha256(body).digest() != digest:
        raise ValueError("its checksum does not fit, it was cut or altered")
    end = start + int.from_bytes(body[len(MAGIC) : start], "little")
    if end > min(len(body), start + LONGEST_KEY):
        raise ValueError("its key is longer than the file")
    return parse_json(body[start:end], dict[str, str]), body[end:]


def _encode(key: Key) -> bytes:
    return json.dumps(dict(key), sort_keys=True).encode()


def _differences(found: Key, wanted: Key) -> str:
    names = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    said = (f"made for {n} {found.get(n, 'unknown')}, not {wanted.get(n, 'unknown')}" for n in names)
    return printable("; ".join(said)[:500])
