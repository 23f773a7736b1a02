"""The video file: every result, at its true time, under its name only when it is whole."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from fractions import Fraction
from pathlib import Path

import av

from clesr.engines.common.clock import ASSUMED_FPS
from clesr.engines.common.errors import WHY, ClesrError, SinkError, told_as
from clesr.engines.common.files import MOST_NUMBERS, NewFile, cannot_write, numbered, partial_name
from clesr.pipeline.frame import Result, Timeline
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.sinks.registry import DEFAULTS, SinkOptions
from clesr.pipeline.video.encoding import (
    EncoderFailed,
    VideoWriter,
    check_codec,
    choose_encoding,
    choose_tick,
    is_readable,
)
from clesr.pipeline.video.hardware_encoding import by_hardware

log = SafeLogger(logging.getLogger(__name__))
RECENT = 64  # images that a card may hold back


class VideoFile:
    """Results as .mkv, .mp4, .mov or .avi.

    Of ``options`` ``codec`` is one of ``encoding.CODECS``, ``crf`` the quality of the lossy ones (0 best, 51 worst;
    None: one that shows no difference), ``fps`` the source's rate where it is known, ``pixel_aspect`` what players
    are told of the form of a pixel (AVI cannot say it). Times are those of the frames (see ``choose_tick``). Images
    of another size or dtype go on in ``NAME.2.mkv``, whose times begin at 0.

    Written to a hidden file beside ``path``, renamed when it is finished: ``path`` is never half written. ``rule``
    says whether an older file may be replaced, which then stays until the end; the files that come behind the
    first take the next free number. ``close`` finishes it with what was captured so far; with
    ``partial_ok=False`` it becomes ``NAME.partial.mkv`` unless ``complete`` was called. After a failure
    what can still be read is kept as ``NAME.partial.mkv``.

    Raises UsageError for a name or codec that cannot work, SinkError where the folder is missing or not
    writable, or ``path`` may not be replaced. ``encode`` says by what is encoded, the processor by default; where a
    card fails, the processor goes on in ``NAME.2.mkv`` with what the card did not give back.
    """

    policy = Policy.BLOCK

    def __init__(self, path: str | Path, options: SinkOptions = DEFAULTS) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.suffix = self.path.suffix.lower()
        check_codec(options.codec, self.suffix)
        self._codec, self._crf, self._fps = options.codec, options.crf, options.fps or ASSUMED_FPS
        self._encode, self._rule = options.encode, options.rule
        self._aspect = options.pixel_aspect
        self._recent: deque[Result] = deque(maxlen=RECENT)
        self._partial_ok = self._complete = options.partial_ok
        self._writer: VideoWriter | None = None
        self._timeline = Timeline(Fraction(1, 1000), 1 / Fraction(self._fps))
        self._kind: tuple[object, ...] = ()
        self._number = 0  # of the last file
        self._finished: list[tuple[NewFile, str]] = []  # under temporary names, and words on them
        self._said: list[str] = []
        self._broken: str | None = None
        self._closed = False
        self._file: NewFile | None = self._reserve(self._named(1))

    def write(self, result: Result) -> None:
        if self._broken is not None:
            raise SinkError(self._broken)
        try:
            self._put(result)
        except EncoderFailed as error:
            self._leave_hardware(str(error))
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
                except (av.FFmpegError, OSError, ClesrError) as error:
                    self._fail(error)
            if self._file is not None:
                self._file.discard()
        if self._broken is not None:
            return self._broken
        return "; ".join(self._said) or f"{self.name}: nothing written, no frame came"

    def _reserve(self, path: Path) -> NewFile:
        """Make the temporary file, so that a folder that cannot be written shows before the first frame."""
        folder = self.path.parent
        if not folder.is_dir():
            raise SinkError(f"{self.name}: there is no folder {folder}; create it, or choose another")
        with told_as(
            SinkError, f"{self.name}: the folder {folder} cannot be written ({WHY}); choose another"
        ):
            return NewFile(path, self._rule)

    def _named(self, number: int) -> Path:
        """The name of the ``number``-th file."""
        return numbered(self.path, number) if number > 1 else self.path

    def _next(self) -> NewFile:
        """The file after the present one, with the next number that may be taken."""
        self._number += 1
        while 1 < self._number < MOST_NUMBERS and not self._rule.allows(self._named(self._number)):
            self._number += 1
        return self._reserve(self._named(self._number))

    def _begin(self, result: Result) -> None:
        """A file for images like this one; the file before it is finished."""
        image, begun = result.image, self._writer is not None
        encoding = choose_encoding(self._codec, self.suffix, image.dtype, image.shape, crf=self._crf)
        while self._writer is not None:
            self._finish()
        if self._partial_ok:
            self._publish()
        encoding = by_hardware(self._encode, encoding, image.shape)
        if self._file is None:
            self._file = self._next()
            if begun:
                kind = f"{image.shape[1]}x{image.shape[0]} pixels, {8 * image.itemsize} bits"
                log.info(f"{self.name}: images have {kind} now; the video goes on in {self._file.final}")
        else:
            self._number = max(self._number, 1)
        tick = choose_tick(self.suffix, result.frame, self._fps)
        self._timeline = Timeline(tick, 1 / Fraction(self._fps))
        self._writer = VideoWriter(
            self._file.path, encoding, image.shape, tick=tick, fps=self._fps, pixel_aspect=self._aspect
        )
        self._kind = (image.shape, image.dtype)

    def _put(self, result: Result) -> None:
        image = result.image
        if self._kind != (image.shape, image.dtype):
            self._begin(result)
        assert self._writer is not None
        if self._writer.encoding.hardware:
            self._recent.append(result)
        self._writer.write(image, self._timeline.place(result.frame))

    def _leave_hardware(self, why: str) -> None:
        """Go on by the processor. Raises SinkError."""
        log.warning(f"encoding by the processor from here on, in another file; the card failed: {why}")
        self._encode = "cpu"
        try:
            self._finish()
        except (av.FFmpegError, OSError) as error:
            self._fail(error)

    def _finish(self) -> None:
        """End the file at hand, still under its temporary name. What a card did not give back begins another one."""
        writer, file = self._writer, self._file
        if writer is None or file is None:
            return
        writer.close()
        self._writer, self._kind = None, ()
        late = [*self._recent][-writer.inside :] if writer.inside else []
        frames = writer.frames - writer.inside
        self._recent.clear()
        if frames:
            height, width = writer.shape
            size = file.path.stat().st_size / 1e6
            words = (
                f"{frames} frames, {self._timeline.seconds:.2f} s, {size:.1f} MB "
                f"({width}x{height}, {writer.encoding.name})"
            )
            self._finished.append((file, words))
            self._file = None
        if late:
            self._encode = "cpu"
            for result in late:
                self._put(result)

    def _publish(self) -> None:
        """Give finished files their names."""
        while self._finished:
            file, words = self._finished[0]
            file.publish(None if self._complete else partial_name(file.final, self._rule))
            end = "" if self._complete else ", stopped before the end of the input"
            self._said.append(f"{file.final}: {words}{end}")
            del self._finished[0]

    def _fail(self, error: BaseException) -> None:
        """Save what can be read under a name that says so. Raises SinkError."""
        self._complete = False
        with contextlib.suppress(OSError, ClesrError):
            self._publish()
        kept = "; ".join([*self._said, *self._salvage()]) or "nothing is kept"
        said: object = error
        if isinstance(error, OSError):
            said = cannot_write(self.name, error)
        elif not isinstance(error, ClesrError):
            said = f"{self.name} cannot be written: {error}"
        self._broken = f"{said}; {kept}"
        raise SinkError(self._broken) from error

    def _salvage(self) -> list[str]:
        """Keep the file at hand where it can be read, else delete it. What was kept, in words."""
        writer, file = self._writer, self._file
        self._writer = self._file = None
        frames = writer.frames if writer is not None else 0
        if writer is not None:
            with contextlib.suppress(av.FFmpegError, OSError):
                writer.close()
        if file is None:
            return []
        try:
            if frames and is_readable(file.path):
                file.publish(partial_name(file.final, self._rule))
                return [f"{file.final} has what reached the disk, at most {frames} frames"]
        except (OSError, ClesrError):
            return [f"what reached the disk may be in {file.path}"]
        file.discard()
        return []
