"""A video file that survives a crash: small clusters, bytes that reach the disk when told, a digest at the end."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from clesr.pipeline.session.coding import TICK, Coder, Picture, configure
from clesr.pipeline.session.format import HASH_BYTES, PIECE, FileFacts, SessionError
from clesr.pipeline.session.place import DamagedError, Held

CLUSTER_MS = 200  # after which the next picture begins a cluster, and those before are written


class DurableFile:
    """The new file ``path`` as PyAV writes it, ``file`` where it is open already, whose
    digest is known without reading it again.

    The digest is BLAKE2b-256 over the BLAKE2b-256 digests of its pieces of ``PIECE`` bytes.
    """

    def __init__(self, path: Path, file: FileIO | None = None) -> None:
        self._file = path.open("xb+", buffering=0) if file is None else file
        self.name = str(path)
        self.size = 0
        self.given_up = False  # what is still written goes nowhere
        self._digests: list[bytes | None] = []  # None where a piece was written to since

    def write(self, data: bytes | memoryview) -> int:
        if self.given_up:
            return len(data)
        begin, found = self._file.tell(), os.fstat(self._file.fileno()).st_size
        if found != self.size:  # looked at here, because writing behind the end makes it long again
            raise DamagedError(
                f"{self.name} was cut from {self.size} to {found} bytes while it was recorded"
                if found < self.size
                else f"{self.name} was written to by another program while it was recorded"
            )
        view = memoryview(data)
        while len(view):
            view = view[self._file.write(view) :]
        end = self._file.tell()
        self.size = max(self.size, end)
        self._digests += [None] * (-(-self.size // PIECE) - len(self._digests))
        for piece in range(begin // PIECE, -(-end // PIECE)):
            self._digests[piece] = None
        self._digest_behind(begin // PIECE)
        return len(data)

    @property
    def held(self) -> Held:
        """The file, to be checked."""
        return Held(Path(self.name).name, self._file.fileno(), self.size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0 if self.given_up else self._file.seek(offset, whence)

    def tell(self) -> int:
        return self.size if self.given_up else self._file.tell()

    def sync(self) -> None:
        os.fdatasync(self._file.fileno())

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` bytes; what is written later goes nowhere."""
        self.given_up = True
        self._file.truncate(size)
        self.size = size
        self._digests = self._digests[: -(-size // PIECE)]
        if self._digests:
            self._digests[-1] = None

    def digest(self) -> str:
        for piece, digest in enumerate(self._digests):
            if digest is None:
                self._digests[piece] = self._digest_piece(piece)
        return hashlib.blake2b(b"".join(filter(None, self._digests)), digest_size=HASH_BYTES).hexdigest()

    def release(self) -> None:
        """Give the file back. Not called ``close``, which PyAV would call before the digest is taken."""
        self._file.close()

    def _digest_behind(self, piece: int) -> None:
        """Digest the whole pieces before ``piece`` while the system still has them in memory."""
        for earlier in range(piece - 1, -1, -1):
            if self._digests[earlier] is not None:
                return
            self._digests[earlier] = self._digest_piece(earlier)

    def _digest_piece(self, piece: int) -> bytes:
        data = os.pread(self._file.fileno(), PIECE, piece * PIECE)
        return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


class MatroskaFile:
    """Pictures of one coder, or copied from one ``source`` stream, in a new ``path``, which ``file`` is
    where that is open already.

    ``written`` counts the pictures whose bytes the system has, so that the end of this process does not lose them;
    ``sync`` brings them to the disk. Raises OSError, av.FFmpegError where that fails: then ``cut`` leaves the file
    with the ``written`` ones.
    """

    def __init__(self, path: Path, source: Coder | VideoStream, file: FileIO | None = None) -> None:
        self._disk = DurableFile(path, file)
        self._container = av.open(
            self._disk,
            "w",
            format="matroska",
            options={"cluster_time_limit": str(CLUSTER_MS), "flush_packets": "1"},
            buffer_size=PIECE,
        )
        if isinstance(source, Coder):
            self._stream = self._add_stream(source)
        else:
            self._stream = self._container.add_stream_from_template(source)
        self.count = self.written = 0
        self._good = self._disk.size

    def _add_stream(self, coder: Coder) -> VideoStream:
        stream = self._container.add_stream(coder.encoding.library, rate=25)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        assert isinstance(context, VideoCodecContext)
        configure(context, coder)
        stream.time_base = TICK
        self._container.start_encoding()
        if (context.extradata or b"") != coder.header:
            raise SessionError("the encoder describes the same pictures in two ways; update PyAV")
        return stream

    def mux(self, picture: Picture) -> None:
        packet = av.Packet(picture.data)
        packet.stream, packet.time_base = self._stream, TICK
        packet.pts = packet.dts = picture.ticks
        packet.is_keyframe = picture.key
        before = self._disk.size
        self._container.mux_one(packet)
        if self._disk.size != before:  # this picture began a cluster: those before it are written
            self.written, self._good = self.count, self._disk.size
        self.count += 1

    @property
    def held(self) -> Held:
        """The file, to be checked."""
        return self._disk.held

    def sync(self) -> None:
        self._disk.sync()

    def close(self) -> None:
        """Write the index and bring everything to the disk."""
        self._container.close()
        self._disk.sync()
        self.written, self._good = self.count, self._disk.size

    def cut(self) -> None:
        """After a failure: end the file after the last cluster that is whole."""
        with suppress(av.FFmpegError, OSError):
            self._container.close()
        self._disk.truncate(self._good)
        self.count = self.written

    def release(self) -> None:
        """Give the file back as it is. May be called twice."""
        self._disk.given_up = True
        with suppress(Exception):  # what failed before is said again here
            self._container.close()
        self._disk.release()

    def facts(self) -> FileFacts:
        """Size in bytes and digest of the closed file, which is then given back."""
        facts: FileFacts = {"bytes": self._disk.size, "digest": self._disk.digest()}
        self._disk.release()
        return facts
