"""The video file: every result, at its true time, under its name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from clesr.pipeline.errors import SinkError
from clesr.pipeline.frame import Image, Result
from clesr.pipeline.mailbox import Policy
from clesr.pipeline.sinks.card import Encode
from clesr.pipeline.sinks.encoding import (
    EncoderFailed,
    VideoWriter,
    check_codec,
    choose_encoding,
    choose_tick,
    is_readable,
)
from clesr.pipeline.sinks.timeline import Timeline

RECENT = 64  # images that a card may hold back
FPS = 25.0  # where the source cannot tell; only .avi and the length of the last frame depend on it


@dataclass(frozen=True, slots=True)
class _Part:
    """A finished file that still has its temporary name, and the name that it gets."""

    temporary: Path
    final: Path
    words: str


class VideoFile:
    """Results as .mkv, .mp4, .mov or .avi.

    ``codec`` is one of ``encoding.CODECS``, ``crf`` the quality of the lossy ones (0 best, 51 worst; None:
    one that shows no difference), ``fps`` the source's rate where it is known. Times are those of the frames
    (see ``choose_tick``). Images of another size or dtype go on in ``NAME.2.mkv``, whose times begin at 0.

    Written to a hidden file beside ``path``, renamed when it is finished: ``path`` is never half written,
    and an older file stays until then. ``close`` finishes it with what was captured so far; with
    ``partial_ok=False`` it becomes ``NAME.partial.mkv`` unless ``complete`` was called. After a failure
    what can still be read is kept as ``NAME.partial.mkv``.

    Raises UsageError for a name or codec that cannot work, SinkError where the folder is missing or not
    writable. ``encode`` says by what is encoded, the processor by default; where a card fails, the processor goes on in
    ``NAME.2.mkv`` with what the card did not give back.
    """

    policy = Policy.ALL

    def __init__(
        self,
        path: str | Path,
        *,
        codec: str = "auto",
        crf: int | None = None,
        fps: float | None = None,
        partial_ok: bool = True,
        encode: Encode | None = None,
    ) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.suffix = self.path.suffix.lower()
        check_codec(codec, self.suffix)
        self._codec, self._crf, self._fps = codec, crf, fps or FPS
        self._encode = encode or Encode()
        self._recent: deque[Result] = deque(maxlen=RECENT)
        self._partial_ok, self._complete = partial_ok, partial_ok
        self._writer: VideoWriter | None = None
        self._timeline = Timeline(Fraction(1, 1000), 1 / Fraction(self._fps))
        self._kind: tuple[object, ...] = ()
        self._begun = 0  # files
        self._finished: list[_Part] = []
        self._said: list[str] = []
        self._broken: str | None = None
        self._closed = False
        self._temporary: Path | None = self._reserve()

    def write(self, result: Result) -> None:
        if self._broken is not None:
            raise SinkError(self._broken)
        try:
            self._put(result)
        except EncoderFailed as error:
            self._leave_card(str(error))
        except (av.FFmpegError, OSError) as error:
            self._fail(error)

    def complete(self) -> None:
        """The input has been processed to its end: ``close`` may give the file its name."""
        self._complete = True

    def close(self) -> str | None:
        """Finish the file. The files written, their frames, seconds and size, in one line.

        Raises SinkError where the end cannot be written.
        """
        if not self._closed:
            self._closed = True
            if self._broken is None:
                try:
                    while self._writer is not None:
                        self._finish()
                    self._publish()
                except (av.FFmpegError, OSError) as error:
                    self._fail(error)
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)
        if self._broken is not None:
            return self._broken
        return "; ".join(self._said) or f"{self.name}: nothing written, no frame came"

    def _reserve(self) -> Path:
        """Make the temporary file, so that a folder that cannot be written shows before the first frame."""
        folder = self.path.parent
        if self.path.is_dir():
            raise SinkError(f"{self.name} is a folder; give the name of a file in it")
        if not folder.is_dir():
            raise SinkError(f"{self.name}: there is no folder {folder}; create it, or choose another")
        temporary = self._named(self._begun + 1, hidden=True)
        try:
            temporary.write_bytes(b"")
        except OSError as error:
            raise SinkError(
                f"{self.name}: the folder {folder} cannot be written ({error.strerror}); choose another"
            ) from error
        return temporary

    def _named(self, number: int, *, hidden: bool = False, partial: bool = False) -> Path:
        """The name of the ``number``-th file."""
        stem = self.path.stem + (f".{number}" if number > 1 else "") + (".partial" if partial else "")
        name = f".{stem}.{os.getpid()}.part" if hidden else stem
        return self.path.with_name(name + self.path.suffix)

    def _begin(self, result: Result) -> None:
        """A file for images like this one; the file before it is finished."""
        image: Image = result.image
        encoding = choose_encoding(self._codec, self.suffix, image.dtype, image.shape, crf=self._crf)
        while self._writer is not None:
            self._finish()
        if self._partial_ok:
            self._publish()
        encoding = self._encode.by_card(encoding, image.shape)
        temporary = self._temporary = self._temporary or self._reserve()
        self._begun += 1
        tick = choose_tick(self.suffix, result.frame, self._fps)
        self._timeline = Timeline(tick, 1 / Fraction(self._fps))
        self._writer = VideoWriter(temporary, encoding, image.shape, tick=tick, fps=self._fps)
        self._kind = (image.shape, image.dtype)

    def _put(self, result: Result) -> None:
        image = result.image
        if self._kind != (image.shape, image.dtype):
            self._begin(result)
        assert self._writer is not None
        if self._writer.encoding.card:
            self._recent.append(result)
        self._writer.write(image, self._timeline.place(result.frame))

    def _leave_card(self, why: str) -> None:
        """Go on by the processor. Raises SinkError."""
        self._encode.tell(f"encoding by the processor from here on, in another file; the card failed: {why}")
        self._encode = Encode()
        try:
            self._finish()
        except (av.FFmpegError, OSError) as error:
            self._fail(error)

    def _finish(self) -> None:
        """End the file at hand, still under its temporary name. What a card did not give back begins another one."""
        writer, temporary = self._writer, self._temporary
        if writer is None or temporary is None:
            return
        writer.close()
        self._writer, self._kind = None, ()
        late = [*self._recent][-writer.inside :] if writer.inside else []
        frames = writer.frames - writer.inside
        self._recent.clear()
        if frames:
            height, width = writer.shape
            size = temporary.stat().st_size / 1e6
            words = (
                f"{frames} frames, {self._timeline.seconds:.2f} s, {size:.1f} MB "
                f"({width}x{height}, {writer.encoding.name})"
            )
            self._finished.append(_Part(temporary, self._named(self._begun), words))
            self._temporary = None
        else:
            self._begun -= 1  # its name is free
        if late:
            self._encode = Encode()
            for result in late:
                self._put(result)

    def _publish(self) -> None:
        """Give finished files their names."""
        while self._finished:
            part = self._finished[0]
            final, end = part.final, ""
            if not self._complete:
                final = final.with_name(f"{final.stem}.partial{final.suffix}")
                end = ", stopped before the end of the input"
            part.temporary.replace(final)
            self._said.append(f"{final}: {part.words}{end}")
            del self._finished[0]

    def _fail(self, error: BaseException) -> None:
        """Save what can be read under a name that says so. Raises SinkError."""
        self._complete = False
        with contextlib.suppress(OSError):
            self._publish()
        kept = [*self._said, *self._salvage()]
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        advice = "; free some space, or choose another disk" if _is_full(error) else ""
        self._broken = (
            f"{self.name} cannot be written: {reason}{advice}; {'; '.join(kept) or 'nothing is kept'}"
        )
        raise SinkError(self._broken) from error

    def _salvage(self) -> list[str]:
        """Keep the file at hand where it can be read, else delete it. What was kept, in words."""
        writer, temporary = self._writer, self._temporary
        self._writer = self._temporary = None
        frames = writer.frames if writer is not None else 0
        if writer is not None:
            with contextlib.suppress(av.FFmpegError, OSError):
                writer.close()
        if temporary is None:
            return []
        partial = self._named(max(self._begun, 1), partial=True)
        try:
            if frames and is_readable(temporary):
                temporary.replace(partial)
                return [f"{partial} has what reached the disk, at most {frames} frames"]
            temporary.unlink(missing_ok=True)
        except OSError:
            return [f"what reached the disk may be in {temporary}"]
        return []


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
