"""Where frames come from: ``open_source`` turns an address into a source. ``SOURCES`` says what opens which."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from clesr.engines.common.addresses import check_address
from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import ClesrError, SourceError, UsageError
from clesr.engines.common.files import MANIFEST, RAW, kind_of
from clesr.engines.common.parsing import one_line
from clesr.engines.common.registry import Registry, taking
from clesr.engines.common.text import conceal, hiding_secrets, shown
from clesr.pipeline.source import Pace, Source, parse_pace
from clesr.pipeline.sources.pacing import Paced

NETWORK = ("rtsp", "rtsps", "http", "https", "udp", "tcp", "rtp", "srt", "rtmp", "rtmps")
ADDRESSES = (
    "/dev/video0",
    "a video file",
    "a Cellvizio .mkt file",
    "a TIFF stack",
    "an image or a DICOM file",
    "a folder of images",
    "a session folder",
    " ".join(f"{scheme}://" for scheme in NETWORK),
    "zmq+tcp://host:port",
    "zmq+ipc:///path",
    "demo:",
)
RECORDINGS = (".mkv", ".mp4", ".mov", ".avi", ".mpg", ".mpeg", ".m4v", ".webm", ".wmv", ".mkt")
"""Suffixes by which videos are known in a folder; a file given by name may have any."""
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
TIFF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DICOM_SUFFIXES = (".dcm", ".dicom")
STILL_SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".pbm", ".pgm", ".ppm", ".pnm", ".webp", ".jp2",
    ".j2k", ".jpf", ".jpx", ".j2c", ".jpc", ".gif",
)  # fmt: skip
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, *DICOM_SUFFIXES, *STILL_SUFFIXES)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What a source is opened with beside its address.

    ``pace`` and ``loop`` are for recorded input, and ``open_source`` sees to them: ``original``, ``max`` or frames a
    second, and whether it begins again at its end. ``count`` makes ``info.frames`` of video files exact, by reading the
    file once. ``timeout`` is how many seconds a network stream may take to answer, and later be silent before it counts
    as lost. ``decode`` says what decodes video: ``cpu``, ``gpu``, or ``auto``, a graphics card for large images.
    ``tell`` is whether what was chosen for the user is told.

    Of images, stacks and DICOM files: ``fps`` is their rate, in place of what they state or 25; ``channel`` and
    ``plane`` choose, from 0, one of a stack that has several; ``window`` are the values of the file that are black and
    white, which floats and 32-bit integers need, and which become ``info.window``; ``alone`` is whether an OME-TIFF of
    several files is read without the others.

    Of video: ``track`` is the number of the track that is read, counted from 1; None for the one that the file marks
    as its default. ``levels`` takes it for ``full`` or ``limited`` range, ``auto`` for what it says; ``deinterlace``
    makes whole pictures of interlaced video.
    """

    clock: Clock = SYSTEM
    pace: Pace = "original"
    loop: bool = False
    count: bool = False
    timeout: float = 5.0
    decode: str = "cpu"
    fps: float | None = None
    channel: int | None = None
    plane: int | None = None
    window: tuple[float, float] | None = None
    tell: bool = True
    alone: bool = False
    track: int | None = None
    levels: str = "auto"
    deinterlace: bool = False


DEFAULTS = SourceOptions()
_IMAGES = "images, stacks and DICOM files"
_PARTS = {
    "demo": "simulator.demo:DemoSource",
    "zmq+tcp": "zeromq.source:ZmqSource",
    "zmq+ipc": "zeromq.source:ZmqSource",
    **dict.fromkeys(NETWORK, "video.stream:open_stream"),
    "/dev/": "v4l2.address:open_camera",
    ".mkt": "images.mkt:open_mkt",
    **dict.fromkeys(IMAGE_SUFFIXES, "images.files:open_images"),
    **dict.fromkeys(TIFF_SUFFIXES, "images.tiff:open_tiff"),
    **dict.fromkeys(DICOM_SUFFIXES, "images.dicom:open_dicom"),
    ".sdp": "video.stream:open_sdp",
    "*": "video.file:VideoSource",
    f"*/{MANIFEST}": "session:SessionSource",
    f"*/{RAW}": "video.file:open_raw_recording",
    "*/": "images.files:open_images",
}
SOURCES: Registry[Callable[[str, SourceOptions], Source]] = Registry(
    "clesr.sources", {name: f"clesr.pipeline.sources.{place}" for name, place in _PARTS.items()}, SourceError
)
"""What opens an address, by its scheme (``demo``) or the suffix of a file (``.mkt``); a folder by the name of a file in
it (``*/session.json``); other files by ``*``, other folders by ``*/``. It is given the address, or the file's path."""


@taking(SourceOptions)
def open_source(address: str, **options: Any) -> Source:
    """The source at ``address``, one of ADDRESSES, or of what other packages add (``SOURCES``). ``options`` are those
    of `SourceOptions`, by name.

    Cameras take options in the address: ``/dev/video0?size=640x480&fps=30&format=GREY&gain=4``, where what
    is not size, fps or format is a control of the camera. ::

        source = open_source("demo:?size=256&fps=12")
        item = source.read(timeout=1.0)  # a Frame, a Corrupt one, or None

    Raises UsageError for an address that cannot work, SourceError where the source cannot be opened.
    """
    check_address(address)
    conceal(address)
    asked = SourceOptions(**options)
    pace = parse_pace(asked.pace)
    address = _lower_scheme(address)
    with hiding_secrets(address):
        source = _opened(address, asked)
    if source.info.live or address.startswith("demo:"):  # the phantom has a pace of its own
        return source
    again = replace(asked, tell=False)
    reopen = (lambda: _opened(address, again)) if asked.loop else None
    return Paced(source, clock=asked.clock, pace=pace, reopen=reopen)


def _opened(address: str, options: SourceOptions) -> Source:
    """The source itself; raises errors of clesr alone."""
    try:
        name, place = _find(address)
        _check_options(name, address, options)
        return SOURCES[name](place, options)
    except ClesrError:
        raise
    except Exception as error:  # whatever a library meets in what it cannot read
        raise SourceError(f"{shown(address)} cannot be opened ({one_line(error)})") from error


def _check_options(name: str, address: str, options: SourceOptions) -> None:
    """Raises UsageError where an option stands at a kind of source that it says nothing to."""
    if name not in _PARTS:  # of another package
        return
    images = name in (*IMAGE_SUFFIXES, ".mkt", "*/")
    video = name in ("*", ".sdp", *NETWORK)
    fields = video or name == "/dev/" or name in DICOM_SUFFIXES
    for option, said, fits, kinds in (
        ("fps", options.fps, images, _IMAGES),
        ("channel", options.channel, images, _IMAGES),
        ("plane", options.plane, images, _IMAGES),
        ("track", options.track, video or name in DICOM_SUFFIXES, "video files and streams"),
        ("range", None if options.levels == DEFAULTS.levels else options.levels, fields, "video and cameras"),
        ("deinterlace", "" if options.deinterlace else None, fields, "video and cameras"),
    ):
        if said is not None and not fits:
            given = f"--{option} {said:g}" if isinstance(said, int | float) else f"--{option} {said}".rstrip()
            raise UsageError(f"{given} is for {kinds}, not for {one_line(shown(address))}; leave it out")


def _lower_scheme(address: str) -> str:
    """``address`` with its scheme in small letters, where it is one and no file."""
    match = _SCHEME.match(address)
    if match is None or os.path.exists(address):
        return address
    return match.group().lower() + address[match.end() :]


def _find(address: str) -> tuple[str, str]:
    """The name in SOURCES of what opens ``address``, and the address or path that it is given."""
    match = _SCHEME.match(address)
    scheme = match.group(1).lower() if match else ""
    if scheme == "file":
        return _find_recording(_file_path(address))
    if scheme and not os.path.exists(address):
        if scheme not in SOURCES:
            added = (f"{name}:" for name in SOURCES if name not in _PARTS and name.isidentifier())
            allowed = ", ".join((*ADDRESSES, *added))
            raise UsageError(f"{one_line(shown(address))} is no source; allowed is {allowed}")
        return scheme, scheme + address[len(scheme) :]  # FFmpeg knows schemes in lower case alone
    if Path(address).is_fifo():  # as /dev/stdin may be
        return _find_recording(Path(address))
    if not os.path.isfile(address) and (
        address.startswith("/dev/") or Path(address.partition("?")[0]).is_char_device()
    ):
        return "/dev/", address
    return _find_recording(Path(address))


def _find_recording(path: Path) -> tuple[str, str]:
    if not os.path.exists(path):
        raise SourceError(f"{one_line(shown(str(path)))}: no such file, folder or device; check the path")
    if path.is_dir():
        if os.path.lexists(path / MANIFEST):  # a damaged session is not taken for anything else
            return f"*/{MANIFEST}", str(path)
        held = (name for name in SOURCES if name.startswith("*/") and os.path.isfile(path / name[2:]))
        return next(held, "*/"), str(path)
    if not path.is_file():
        raise SourceError(
            f"{one_line(str(path))} is {kind_of(path.stat())}, which cannot be read as a recording; give a file"
        )
    if not path.stat().st_size:
        raise SourceError(f"{path} is empty (0 bytes); check how it was written or copied")
    suffix = path.suffix.lower()
    return suffix if suffix in SOURCES else _kind_by_begin(path), str(path)


def _kind_by_begin(path: Path) -> str:
    """What opens a file whose suffix says nothing: the suffix of images that may be many, which FFmpeg would not tell;
    else ``*``."""
    with suppress(OSError), path.open("rb") as file:
        begin = file.read(132)
        if begin[128:] == b"DICM":
            return DICOM_SUFFIXES[0]
        if begin.startswith(TIFF_BEGINS):
            return TIFF_SUFFIXES[0]
        if begin.startswith((b"\x89PNG\r\n", b"GIF8")) or (begin[:4], begin[8:12]) == (b"RIFF", b"WEBP"):
            return STILL_SUFFIXES[0]
    return "*"


def _file_path(address: str) -> Path:
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{one_line(shown(address))} is a file on {parts.netloc}; write file:///path for one on this machine"
        )
    return Path(unquote(parts.path))
