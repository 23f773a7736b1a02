"""Where frames come from. ``open_source`` turns an address into a source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import ClesrError, SourceError, UsageError
from clesr.engines.common.files import kind_of
from clesr.engines.common.numbers import decimal_number, shortened
from clesr.engines.common.parsing import one_line
from clesr.engines.common.text import conceal, hiding_secrets, shown
from clesr.pipeline.sources.base import Source, SourceInfo
from clesr.pipeline.sources.options import check_address, split_options
from clesr.pipeline.sources.pacing import Pace, Paced, parse_pace

if TYPE_CHECKING:
    from clesr.pipeline.sources.video.hardware import Decoding

__all__ = [
    "ADDRESSES",
    "IMAGE_SUFFIXES",
    "RECORDINGS",
    "TIFF_SUFFIXES",
    "Source",
    "SourceInfo",
    "open_source",
]

ADDRESSES = (
    "/dev/video0",
    "a video file",
    "a Cellvizio .mkt file",
    "a TIFF stack",
    "a folder of images",
    "a session folder",
    "rtsp:// rtsps:// http:// https:// udp:// tcp:// rtp:// srt:// rtmp:// rtmps://",
    "zmq+tcp://host:port",
    "zmq+ipc:///path",
    "demo:",
)
RECORDINGS = (".mkv", ".mp4", ".mov", ".avi", ".mpg", ".mpeg", ".m4v", ".webm", ".wmv", ".mkt")
"""Suffixes by which videos are known in a folder; a file given by name may have any."""
TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp", ".jp2")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_SESSION = "session.json"  # what makes a folder a session
_RAW_RECORDING = "raw.mkv"  # what replays of a session whose session.json is gone


def open_source(
    address: str,
    *,
    clock: Clock = SYSTEM,
    pace: Pace = "original",
    loop: bool = False,
    count: bool = False,
    timeout: float = 5.0,
    decoding: Decoding | None = None,
) -> Source:
    """The source at ``address``, one of ADDRESSES.

    ``pace`` and ``loop`` are for recorded input: ``original``, ``max`` or frames a second, and whether it begins
    again at its end. ``count`` makes ``info.frames`` of video files exact, by reading the file once.
    ``timeout`` is how many seconds a network stream may take to answer, and later be silent before it counts as
    lost. Cameras take options in the address: ``/dev/video0?size=640x480&fps=30&format=GREY&gain=4``, where what
    is not size, fps or format is a control of the camera. ``decoding`` says what decodes video, the
    processor by default.

    Raises UsageError for an address that cannot work, SourceError where the source cannot be opened.
    """
    check_address(address)
    conceal(address)
    pace = parse_pace(pace)
    opener = _opener(address, clock=clock, count=count, timeout=timeout, decoding=decoding)
    with hiding_secrets(address):
        source = opener()
    if source.info.live or address.startswith("demo:"):  # the phantom has a pace of its own
        return source
    return Paced(source, clock=clock, pace=pace, reopen=opener if loop else None)


def _opener(
    address: str, *, clock: Clock, count: bool, timeout: float, decoding: Decoding | None
) -> Callable[[], Source]:
    """What opens the source, as often as it is called, and raises errors of clesr alone."""

    def opened() -> Source:
        try:
            return _kind(address, clock=clock, count=count, timeout=timeout, decoding=decoding)()
        except ClesrError:
            raise
        except Exception as error:  # whatever a library meets in what it cannot read
            raise SourceError(f"{shown(address)} cannot be opened ({one_line(error)})") from error

    return opened


def _kind(
    address: str, *, clock: Clock, count: bool, timeout: float, decoding: Decoding | None
) -> Callable[[], Source]:
    """Each kind's library is loaded where it is needed."""
    match = _SCHEME.match(address)
    scheme = match.group(1).lower() if match else ""
    if scheme == "demo":
        return lambda: _demo(address, clock)
    if scheme in ("zmq+tcp", "zmq+ipc"):
        return lambda: _zeromq(address, clock)
    if scheme == "file":
        path = _file_path(address)
        return lambda: _recorded(path, clock=clock, count=count, timeout=timeout, decoding=decoding)
    if scheme and not os.path.exists(address):
        return lambda: _network(address, scheme, clock=clock, timeout=timeout, decoding=decoding)
    if _is_device(address):
        return lambda: _camera(address, clock)
    return lambda: _recorded(Path(address), clock=clock, count=count, timeout=timeout, decoding=decoding)


def _demo(address: str, clock: Clock) -> Source:
    from clesr.pipeline.sources.simulator.demo import DemoSource

    return DemoSource(address, clock=clock)


def _zeromq(address: str, clock: Clock) -> Source:
    from clesr.pipeline.sources.zeromq.source import ZmqSource

    return ZmqSource(address, clock=clock)


def _network(address: str, scheme: str, *, clock: Clock, timeout: float, decoding: Decoding | None) -> Source:
    from clesr.pipeline.sources.video.stream import SCHEMES, open_stream

    if scheme not in SCHEMES:
        raise UsageError(
            f"{one_line(shown(address))}: {scheme}: is no source; allowed is {', '.join(ADDRESSES)}"
        )
    return open_stream(address, clock=clock, timeout=timeout, decoding=decoding)


def _camera(address: str, clock: Clock) -> Source:
    device, options = split_options(address)
    size = _size(address, options.pop("size", None))
    fps = _fps(address, options.pop("fps", None))
    pixel_format = options.pop("format", None)
    try:
        from clesr.pipeline.sources.v4l2.camera import CameraSource
    except ImportError as error:
        raise SourceError(f"{device}: cameras need linuxpy, which is for Linux only ({error})") from error
    return CameraSource(device, size=size, fps=fps, pixel_format=pixel_format, controls=options, clock=clock)


def _recorded(path: Path, *, clock: Clock, count: bool, timeout: float, decoding: Decoding | None) -> Source:
    from clesr.pipeline.sources.images import mkt, stack
    from clesr.pipeline.sources.video import file as video
    from clesr.pipeline.sources.video import stream

    if not os.path.exists(path):
        raise SourceError(f"{one_line(shown(str(path)))}: no such file, folder or device; check the path")
    if path.is_dir():
        if os.path.lexists(path / _SESSION):
            from clesr.pipeline.sources.session import SessionSource

            return SessionSource(path, clock=clock)
        recording = path / _RAW_RECORDING
        if recording.is_file():
            return video.VideoSource(recording, clock=clock, count=count, decoding=decoding)
        return stack.open_images(path, clock=clock)
    if not path.is_file():
        raise SourceError(
            f"{one_line(str(path))} is {kind_of(path.stat())}, which cannot be read as a recording; give a file"
        )
    if not path.stat().st_size:
        raise SourceError(f"{path} is empty (0 bytes); check how it was written or copied")
    suffix = path.suffix.lower()
    if suffix == ".mkt":
        return mkt.open_mkt(path, clock=clock)
    if suffix in TIFF_SUFFIXES:
        return stack.open_tiff(path, clock=clock)
    if suffix in IMAGE_SUFFIXES:
        return stack.open_images(path, clock=clock)
    if suffix == ".sdp":
        return stream.open_stream(f"file:{path}", clock=clock, timeout=timeout, decoding=decoding)
    return video.VideoSource(path, clock=clock, count=count, decoding=decoding)


def _is_device(address: str) -> bool:
    path = Path(address.partition("?")[0])
    return not os.path.isfile(address) and (address.startswith("/dev/") or path.is_char_device())


def _file_path(address: str) -> Path:
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{one_line(shown(address))} is a file on {parts.netloc}; write file:///path for one on this machine"
        )
    return Path(unquote(parts.path))


def _size(address: str, size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size, re.ASCII)
    if match is None:
        raise UsageError(
            f"{one_line(address)}: size is {shortened(size)}; write width x height in pixels, as size=640x480"
        )
    return int(match[1]), int(match[2])


def _fps(address: str, fps: str | None) -> float | None:
    if fps is None:
        return None
    try:
        rate = decimal_number(fps)
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 1000:
        raise UsageError(
            f"{one_line(address)}: fps is {shortened(fps)}; allowed is a number of frames a second up to 1000"
        )
    return rate
