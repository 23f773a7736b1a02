"""What stands in a session folder, to the byte: docs/session-format.md in code.

Everything is hashed over exact bytes, so that no byte of any file can change unseen: each line of ``frames.jsonl``
and ``notes.jsonl`` carries a hash over itself and the line before it, ``session.json`` one over itself, and it states
the digest of every other file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from fractions import Fraction
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from clesr.engines.common.errors import WHY, ClesrError, RecordingError, first_line, told_as
from clesr.engines.common.files import SESSION_FILES
from clesr.engines.common.parsing import Count, Int64, Side, check_depth, parse_json
from clesr.pipeline.frame import Outcome

VERSION = 1
MANIFEST, FRAMES, NOTES, RAW, SR = SESSION_FILES
TICK = Fraction(1, 1000)  # Matroska's clock, in seconds
CALIBRATION = re.compile(r"[0-9a-f]{16}\.cores")  # the name of one of fibre cores: how its hash begins
MANIFEST_BYTES = 16 << 20  # of session.json, at most
LINE_BYTES = 1 << 20  # of a line of frames.jsonl, at most
LOW_DISK = "its up-scaled image was left out: the disk was nearly full"  # in the reason of a frame
LONGEST_TEXT = 4096  # characters of a text that is written; the rest is cut off
HASH_BYTES = 32
PIECE = 1 << 20  # bytes of a file that are hashed together
_CHAIN = b',"chain":"'
_HASH = b'"hash": "'
_ZEROS = b"0" * (2 * HASH_BYTES)

Text = Annotated[str, Meta(max_length=1 << 16)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Ticks = Annotated[int, Meta(ge=-(2**53), le=2**53)]
GreyLevel = Annotated[float, Meta(ge=-1e9, le=1e9)]
FrameRate = Annotated[float, Meta(ge=1e-6, le=1e6)]
Micrometres = Annotated[float, Meta(ge=1e-6, le=1e6)]
Line = TypeVar("Line")
Scalar = str | int | float | bool | None


class FileFacts(TypedDict):
    """Size and digest of a file."""

    bytes: Count
    digest: Hash


class SessionError(ClesrError):
    """A session cannot be read, written or repaired; exit status 1."""


class EndedEarlyError(SessionError, RecordingError):
    """A recording ended early, or nothing of it was recorded."""


class MovedError(SessionError):
    """The folder is another place now, or hidden; the session in it is whole."""


class DamagedError(SessionError):
    """Somebody removed, replaced or cut what was recorded."""


def cause(error: Exception) -> str:
    """Why writing failed, without file names."""
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of ``frames.jsonl``: a captured frame, or ``count`` numbers in a row that the source lost; 0 where the
    source was away and nobody knows how many frames are missing before ``number``.

    Times are monotonic nanoseconds; ``ticks`` is the presentation time in both video files, in milliseconds since the
    first frame. ``outcome`` is None where the recording ended before it was known. ``fidelity`` is in dB.
    ``levels`` are the source levels that became black and white, None where the image was not stretched. ``noise`` is
    what the network was told: noise, detail, peaks, blocks and floor (engines/levels.py); ``trusted`` the share of the
    image that its part counts on. Both are None where it takes nothing but the image. ``cores`` is the SHA-256 of the
    calibration by which fibre cores were removed, None where they were not. ``frames`` is how many frames the
    image rests on, None where each stands alone. ``damaged`` marks a frame that builds on a damaged picture. ``gap_ns``
    are the times of the last frame before an outage of the source and of the first one after it, None for all else.
    ``raw_index`` and ``sr_index`` are the positions in the video files, None where the frame is not in them;
    ``reason`` then says why. ``raw_hash`` and ``sr_hash`` are BLAKE2b-256 over the pixels, row by row,
    little-endian; ``sr_coded`` is the hash of the coded picture, where the codec is lossy. ``recovered`` marks
    what ``repair`` found in the video files alone.
    """

    number: Count
    count: Count = 1
    captured_ns: Int64
    prepared_ns: Int64 | None = None
    submitted_ns: Int64 | None = None
    collected_ns: Int64 | None = None
    ticks: Ticks | None = None
    outcome: Outcome | None = None
    fidelity: float | None = None
    levels: tuple[GreyLevel, GreyLevel] | None = None
    cores: Hash | None = None
    noise: tuple[GreyLevel, GreyLevel, GreyLevel, GreyLevel, GreyLevel] | None = None
    trusted: Annotated[float, Meta(ge=0, le=1)] | None = None
    frames: Annotated[float, Meta(ge=1, le=1e6)] | None = None
    damaged: bool = False
    gap_ns: tuple[Int64, Int64] | None = None
    raw_index: Count | None = None
    raw_hash: Hash | None = None
    sr_index: Count | None = None
    sr_hash: Hash | None = None
    sr_coded: Hash | None = None
    reason: Text | None = None
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """What ``session.json`` says.

    ``started`` is the wall-clock time of the first frame (ISO 8601 with offset), ``started_ns`` the monotonic time of
    the same moment, ``first`` that frame's number. ``engine`` to ``model_hash`` describe what made the first SR image
    and are empty where none was made; ``engines`` lists every engine with the number ``from`` which it worked.
    ``raw_shape`` and ``sr_shape`` are (H, W), ``pixel_aspect`` width and height of a pixel. ``settings`` holds roi,
    window and masks as they were given. ``closed`` is False while a session is recorded and after a crash; ``ended``
    says how it was closed. ``totals``, ``chain``, ``lines`` and ``files`` (digests) are there once it is closed;
    ``notes``, the digest of ``notes.jsonl``, where somebody noted something. It is no part of ``files``, so that
    versions that know no notes find nothing wrong. ``sr_left_out``, for the same reason no part of ``totals``, counts
    frames whose SR image was left out because the disk was nearly full.
    """

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    version: int = VERSION
    closed: bool = False
    ended: Text = ""
    started: Annotated[str, Meta(max_length=64)]
    started_ns: Int64
    first: Count
    source: Text
    live: bool
    fps: FrameRate | None = None
    pixel_um: Micrometres | None = None
    pixel_aspect: tuple[Side, Side] = (1, 1)
    scale: Annotated[int, Meta(ge=2, le=8)]
    raw_shape: tuple[Side, Side]
    sr_shape: tuple[Side, Side]
    dtype: Annotated[str, Meta(pattern=r"^uint(8|16)\Z")]
    raw_codec: Annotated[str, Meta(pattern=r"^ffv1\Z")] = "ffv1"
    sr_codec: Annotated[str, Meta(pattern=r"^(ffv1|hevc)\Z")] = "ffv1"
    engine: Text = ""
    device: Text = ""
    precision: Text = ""
    model: Text = ""
    model_hash: Text = ""  # not Hash: an engine from outside may name its weights otherwise
    engines: tuple[Mapping[str, Scalar], ...] = ()
    settings: Mapping[str, Any]
    versions: Mapping[str, Text]
    totals: Mapping[str, Count] | None = None
    lines: Count | None = None
    chain: Annotated[str, Meta(pattern=r"^([0-9a-f]{32}){1,2}\Z")] | None = None
    files: Mapping[Text, FileFacts] | None = None
    notes: FileFacts | None = None
    sr_left_out: Count = 0


NoteText = Annotated[str, Meta(max_length=LONGEST_TEXT)]


class SessionNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of ``notes.jsonl``: ``text`` that was noted at ``time_ns`` (monotonic nanoseconds); ``number`` is that of
    the frame that was seen then, None where none was."""

    time_ns: Int64
    number: Count | None = None
    text: NoteText


def count_records(records: Iterable[Record]) -> Counter[str]:
    """The totals of ``records``, as ``session.json`` has them."""
    totals: Counter[str] = Counter()
    for record in records:
        totals["captured"] += record.count
        totals[str(record.outcome or "unfinished")] += record.count
        totals["raw"] += record.raw_index is not None
        totals["sr"] += record.sr_index is not None
        if record.raw_index is None and record.outcome not in (Outcome.LOST, Outcome.CORRUPT):
            totals["unrecorded"] += record.count
        if record.damaged:
            totals["damaged"] += 1
        if record.gap_ns is not None:
            totals["outages"] += 1
        if not record.count:
            totals["uncounted"] += 1
    return totals


def count_left_out(records: Iterable[Record]) -> int:
    """How many of ``records`` have no SR image because the disk was nearly full."""
    return sum(LOW_DISK in (record.reason or "") for record in records)


def calibration_name(sha256: str) -> str:
    """The name that a calibration has in a session."""
    return f"{sha256[:16]}.cores"


def positions(records: Iterable[Record], name: str) -> Iterator[tuple[int, Record]]:
    """Those of ``records`` that have a picture in the video ``name``, each behind its position there."""
    indexed = ((record.raw_index if name == RAW else record.sr_index, record) for record in records)
    return ((index, record) for index, record in indexed if index is not None)


def hash_bytes(*parts: bytes | memoryview) -> str:
    """BLAKE2b-256 over ``parts`` in a row, as hexadecimal digits."""
    return hashlib.blake2b(b"".join(parts), digest_size=HASH_BYTES).hexdigest()


def digest_file(path: Path) -> FileFacts:
    """Size in bytes and digest of a file: BLAKE2b-256 over the BLAKE2b-256 digests of its pieces of PIECE bytes.

    Raises OSError.
    """
    with path.open("rb") as file:
        return digest_open(file)


def digest_open(file: FileIO | BufferedReader | BytesIO) -> FileFacts:
    """As ``digest_file``, of an open file."""
    whole, size = hashlib.blake2b(digest_size=HASH_BYTES), 0
    file.seek(0)
    while piece := file.read(PIECE):
        whole.update(hashlib.blake2b(piece, digest_size=HASH_BYTES).digest())
        size += len(piece)
    return {"bytes": size, "digest": whole.hexdigest()}


def format_lines(records: Iterable[Record], previous: str) -> tuple[bytes, str]:
    """``records`` as lines that follow the one whose chain value is ``previous`` (the first line of all follows the
    session's id); the lines and the chain value of the last.

    Fields that hold their default are left out.
    """
    stated = (
        {name: _cut(value) for name, default in _DEFAULTS if (value := getattr(record, name)) != default}
        for record in records
    )
    return _chain(stated, previous)


def format_notes(notes: Iterable[SessionNote], previous: str) -> tuple[bytes, str]:
    """``notes`` as lines, as ``format_lines``."""
    return _chain(map(msgspec.structs.asdict, notes), previous)


def _chain(stated: Iterable[Mapping[str, Any]], previous: str) -> tuple[bytes, str]:
    """The values ``stated``, a line each, as ``format_lines``."""
    lines = []
    for values in stated:
        body = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()[:-1]
        previous = hash_bytes(previous.encode(), body)
        lines.append(body + _CHAIN + previous.encode() + b'"}\n')
    return b"".join(lines), previous


def parse_line(line: bytes, previous: str, kind: type[Line]) -> tuple[Line, str]:
    """What ``line`` says, of this ``kind``, and its chain value. Raises ValueError with what is wrong in one line."""
    body, found, tail = line.rpartition(_CHAIN)
    if not found or not line.endswith(b"\n"):
        raise ValueError("is cut or damaged")
    chain = hash_bytes(previous.encode(), body)
    if tail != chain.encode() + b'"}\n':
        raise ValueError("was changed, or does not follow the line before it")
    with told_as(ValueError, f"holds what this format does not know ({WHY})", ValueError):
        return parse_json(body + b"}", kind), chain


def format_manifest(info: SessionInfo) -> bytes:
    """``session.json``: readable JSON whose last value is the hash over the file with that hash as zeros."""
    values = {f.name: _cut(getattr(info, f.name)) for f in fields(info)} | {"hash": _ZEROS.decode()}
    text = json.dumps(values, indent=2, allow_nan=False).encode() + b"\n"
    return text.replace(_HASH + _ZEROS, _HASH + hash_bytes(text).encode())


def manifest_hash(text: bytes) -> tuple[str, bool]:
    """The hash that ``text`` states, and whether it is that of ``text``."""
    head, found, tail = text.rpartition(_HASH)
    stated = tail[: 2 * HASH_BYTES]
    holds = found and hash_bytes(head, _HASH, _ZEROS, tail[2 * HASH_BYTES :]).encode() == stated
    return stated.decode("ascii", "replace"), bool(holds)


def parse_manifest(text: bytes, name: str) -> SessionInfo:
    """The manifest in ``text``; raises SessionError, which names it ``name``, where it cannot be understood."""
    with told_as(SessionError, f"{name} is damaged ({WHY}); restore the session from a copy", ValueError):
        version = parse_json(text, _SessionVersion).version
        if version != VERSION:
            raise SessionError(
                f"{name} has format version {version}, this clesr reads {VERSION}; update clesr"
            )
        info = parse_json(text, SessionInfo)
        check_depth(info.settings)
        started = datetime.fromisoformat(info.started)
        if started.tzinfo is None or not 1900 < started.year < 3000:
            raise ValueError(f"started is {info.started}: expected a time with its offset from UTC")
    return info


def _cut(value: Any) -> Any:
    return value[:LONGEST_TEXT] if isinstance(value, str) else value


class _SessionVersion(msgspec.Struct):
    version: int


_DEFAULTS = [(f.name, f.default) for f in msgspec.structs.fields(Record)]
