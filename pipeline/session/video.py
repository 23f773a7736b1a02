"""A session's videos: images are encoded without a file, so that they can wait in memory before a recording begins, and
written to a Matroska file that survives a crash: small clusters, bytes that reach the disk when told, a digest at the
end."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import ClassVar, NamedTuple

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from clesr.engines.common.errors import UsageError
from clesr.engines.common.processor import core_count
from clesr.pipeline.frame import Image, period_of
from clesr.pipeline.session.format import (
    HASH_BYTES,
    PIECE,
    TICK,
    DamagedError,
    FileFacts,
    SessionError,
    hash_bytes,
)
from clesr.pipeline.video.encoding import FULL_RANGE, choose_encoding
from clesr.pipeline.video.matroska import described, leave_room
from clesr.pipeline.video.tracks import pixel_aspect

CODECS = ("ffv1", "hevc")
KEYFRAME_S = 1.0  # between two images that a lossy stream can be entered at
CLUSTER_MS = 200  # after which the next image begins a cluster, and those before are written
_START_CODE = re.compile(rb"\x00?\x00\x00\x01")  # ITU-T H.265, annex B


class ImageFormat(NamedTuple):
    """Shape (H, W) and depth of images; as text width, height and depth."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def __str__(self) -> str:
        height, width = self.shape
        return f"{width}x{height} {self.dtype}"


class EncodedImage(NamedTuple):
    """A coded image: its bytes, whether it needs none before it, the hashes of its pixels and, where the codec is
    lossy, of its bytes in the file."""

    data: bytes
    key: bool
    pixels: str
    coded: str | None
    encoder: ImageEncoder


class ImageEncoder:
    """Encodes (H, W) uint8 or uint16 images of one format, one packet each at once.

    FFV1 makes every image independent of the others, with checksums, so that damage stays where it is. HEVC is lossy:
    8 bits of uint8, 12 of uint16. ``pixel_aspect`` is the width of a pixel over its height. Raises UsageError for
    another codec, SinkError where PyAV lacks it.
    """

    def __init__(
        self,
        codec: str,
        images: ImageFormat,
        *,
        fps: float,
        threads: int,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        if codec not in CODECS:
            raise UsageError(f"codec {codec!r} is none of a session's; allowed are {', '.join(CODECS)}")
        height, width = images.shape
        if codec == "hevc" and images.dtype.itemsize > 1:
            codec = "hevc12"
        self.codec, self.images, self.fps, self.threads = codec, images, fps, threads
        self.pixel_aspect = pixel_aspect
        self.encoding = choose_encoding(codec, ".mkv", images.dtype, (height, width))
        self.lossless = codec == "ffv1"
        context = av.CodecContext.create(self.encoding.library, "w")
        assert isinstance(context, VideoCodecContext)
        self._context = context
        self.configure(context)
        context.open()
        self._frame = VideoFrame(width, height, self.encoding.pixels)
        self._frame.color_range, self._frame.time_base, self._frame.pts = FULL_RANGE, TICK, 0

    @property
    def header(self) -> bytes:
        """What a decoder must know before the first image."""
        return self._context.extradata or b""

    def configure(self, context: VideoCodecContext) -> None:
        """Give ``context`` the encoder's settings: two that have the same encode alike."""
        context.height, context.width = self.images.shape
        context.pix_fmt, context.color_range = self.encoding.pixels, FULL_RANGE
        if self.pixel_aspect != 1:
            context.sample_aspect_ratio = self.pixel_aspect
        context.time_base = TICK
        context.framerate = 1 / period_of(self.fps)
        context.gop_size = 1 if self.lossless else max(1, round(KEYFRAME_S * self.fps))
        context.thread_count, context.thread_type = self.threads, "SLICE"
        context.options = dict(self.encoding.options) | ({} if self.lossless else {"forced-idr": "1"})
        context.flags |= av.codec.context.Flags.global_header

    def encode(self, image: Image, *, key: bool = False) -> EncodedImage:
        """``image`` encoded; ``key``: as one that needs none before it. Raises SessionError, av.FFmpegError."""
        self._frame.make_writable()
        plane, ((height, width), dtype) = self._frame.planes[0], self.images
        rows = np.frombuffer(memoryview(plane), dtype).reshape(height, plane.line_size // dtype.itemsize)
        np.right_shift(image, self.encoding.shift, out=rows[:, :width])
        self._frame.pict_type = PictureType.I if key else PictureType.NONE
        packets = self._context.encode(self._frame)
        if len(packets) != 1:
            raise SessionError(f"the {self.codec} encoder gave {len(packets)} pictures for one image")
        data = bytes(packets[0])
        coded = None if self.lossless else hash_bytes(_in_matroska(data))
        return EncodedImage(data, packets[0].is_keyframe, hash_pixels(image), coded, self)


def hash_pixels(image: Image) -> str:
    """BLAKE2b-256 over ``image``, row by row, little-endian."""
    little = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
    return hashlib.blake2b(little.reshape(-1).data, digest_size=HASH_BYTES).hexdigest()


def raw_threads() -> int:
    """Threads that encode raw images: at most four, as FFV1 has four slices."""
    return min(4, core_count())


def _in_matroska(data: bytes) -> bytes:
    """HEVC as it stands in a Matroska block: each unit behind its length (4 bytes), not behind a start code."""
    units = _START_CODE.split(data)[1:]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


class DurableFile:
    """The new file ``path`` as PyAV writes it, ``file`` where it is open already, whose digest is known without reading
    it again.

    The digest is BLAKE2b-256 over the BLAKE2b-256 digests of its pieces of ``PIECE`` bytes. ``before_writing`` is told
    the file's name before each write and sync, where faults are tried (pipeline/chaos).
    """

    before_writing: ClassVar[Callable[[str], None] | None] = None

    def __init__(self, path: Path, file: FileIO | None = None, pixel_aspect: Fraction = Fraction(1)) -> None:
        self.file = file or FileIO(path, "x+")
        self.pixel_aspect = pixel_aspect
        self.name = str(path)
        self.size = 0
        self.given_up = False  # what is still written goes nowhere
        self._described = sys.maxsize  # from where on there is no description of a track
        self._digests: list[bytes | None] = []  # None where a piece was written to since

    def write(self, data: bytes | memoryview) -> int:
        if self.given_up:
            return len(data)
        if DurableFile.before_writing:
            DurableFile.before_writing(self.name)
        begin, found = self.file.tell(), os.fstat(self.file.fileno()).st_size
        if found != self.size:  # looked at here, because writing behind the end makes it long again
            raise DamagedError(
                f"{self.name} was cut from {self.size} to {found} bytes while it was recorded"
                if found < self.size
                else f"{self.name} was written to by another program while it was recorded"
            )
        written = described(data, self.pixel_aspect) if begin < self._described else data
        rest = memoryview(written)
        while rest:
            rest = rest[os.write(self.file.fileno(), rest) :]
        end = self.file.tell()
        if written is not data:
            self._described = end
        self.size = max(self.size, end)
        self._digests += [None] * (-(-self.size // PIECE) - len(self._digests))
        for piece in range(begin // PIECE, -(-end // PIECE)):
            self._digests[piece] = None
        for earlier in range(begin // PIECE - 1, -1, -1):  # while the system still has them in memory
            if self._digests[earlier] is not None:
                break
            self._digests[earlier] = self._digest_piece(earlier)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0 if self.given_up else self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.size if self.given_up else self.file.tell()

    def sync(self) -> None:
        if DurableFile.before_writing:
            DurableFile.before_writing(self.name)
        os.fdatasync(self.file.fileno())

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` bytes; what is written later goes nowhere."""
        self.given_up = True
        self.file.truncate(size)
        self.size = size
        self._digests = self._digests[: -(-size // PIECE)]
        if self._digests:
            self._digests[-1] = None

    def digest(self) -> str:
        return hash_bytes(*(found or self._digest_piece(at) for at, found in enumerate(self._digests)))

    def release(self) -> None:
        """Give the file back. Not called ``close``, which PyAV would call before the digest is taken."""
        self.file.close()

    def _digest_piece(self, piece: int) -> bytes:
        data = os.pread(self.file.fileno(), PIECE, piece * PIECE)
        return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


class MatroskaFile:
    """Images of one encoder, or copied from one ``source`` stream, in a new ``path``, which ``file`` is where that is
    open already.

    ``written`` counts the images whose bytes the system has, so that the end of this process does not lose them;
    ``sync`` of its ``disk`` brings them there. Raises OSError, av.FFmpegError where that fails: then ``cut`` leaves the
    file with the ``written`` ones.
    """

    def __init__(self, path: Path, source: ImageEncoder | VideoStream, file: FileIO | None = None) -> None:
        aspect = source.pixel_aspect if isinstance(source, ImageEncoder) else pixel_aspect(source)
        self.disk = DurableFile(path, file, aspect)
        self._container = av.open(
            self.disk,
            "w",
            format="matroska",
            options={"cluster_time_limit": str(CLUSTER_MS), "flush_packets": "1"},
            buffer_size=PIECE,
        )
        if isinstance(source, ImageEncoder):
            self._stream = self._add_stream(source)
        else:
            self._stream = self._container.add_stream_from_template(source)
            leave_room(self._stream)
        self.count = self.written = 0
        self._good = self.disk.size

    def _add_stream(self, encoder: ImageEncoder) -> VideoStream:
        stream = self._container.add_stream(encoder.encoding.library, rate=25)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        assert isinstance(context, VideoCodecContext)
        encoder.configure(context)
        stream.time_base = TICK
        leave_room(stream)
        self._container.start_encoding()
        if (context.extradata or b"") != encoder.header:
            raise SessionError("the encoder describes the same pictures in two ways; update PyAV")
        return stream

    def mux(self, data: bytes, ticks: int, *, key: bool) -> None:
        """Add the encoded image ``data``, shown at ``ticks`` milliseconds; ``key``: it needs none before it."""
        packet = av.Packet(data)
        packet.stream, packet.time_base = self._stream, TICK
        packet.pts = packet.dts = ticks
        packet.is_keyframe = key
        before = self.disk.size
        self._container.mux_one(packet)
        if self.disk.size != before:  # this image began a cluster: those before it are written
            self.written, self._good = self.count, self.disk.size
        self.count += 1

    def close(self) -> None:
        """Write the index and bring everything to the disk."""
        self._container.close()
        self.disk.sync()
        self.written, self._good = self.count, self.disk.size

    def cut(self) -> None:
        """After a failure: end the file after the last cluster that is whole."""
        with suppress(av.FFmpegError, OSError):
            self._container.close()
        self.disk.truncate(self._good)
        self.count = self.written

    def release(self) -> None:
        """Give the file back as it is. May be called twice."""
        self.disk.given_up = True
        with suppress(Exception):  # what failed before is said again here
            self._container.close()
        self.disk.release()

    def facts(self) -> FileFacts:
        """Size in bytes and digest of the closed file, which is then given back."""
        facts: FileFacts = {"bytes": self.disk.size, "digest": self.disk.digest()}
        self.disk.release()
        return facts
