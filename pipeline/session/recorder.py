"""The recorder of a live run: every captured frame as it was, whatever becomes of engine and display.

    source thread: capture, lose, spoil, prepared, settle -\\
    engine thread: settle                                   >  inbox -> recorder thread: code raw, write, sync
    sink thread: write (codes the SR image)               -/

All files belong to the recorder thread alone.
"""

from __future__ import annotations

import platform
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines import EngineInfo
from clesr.pipeline.clock import SYSTEM, Clock
from clesr.pipeline.errors import ClesrError
from clesr.pipeline.frame import Corrupt, Frame, Image, Outcome, Result
from clesr.pipeline.mailbox import Closed, Policy
from clesr.pipeline.session.coding import TICK, Coder, Picture, raw_threads
from clesr.pipeline.session.format import Record, SessionError, SessionInfo
from clesr.pipeline.session.inbox import Inbox
from clesr.pipeline.session.retro import Retro
from clesr.pipeline.session.writer import WRITING_ERRORS, Entry, SessionWriter, make_folder
from clesr.pipeline.sinks.encoding import encoder_threads
from clesr.pipeline.sinks.timeline import Timeline
from clesr.pipeline.sources.base import SourceInfo
from clesr.pipeline.watch import Watch

SYNC_NS = 400_000_000  # between two moments at which everything is brought to the disk
WAITING_BYTES = 256 << 20  # of images that may wait for the disk
RETRO_BYTES = 1 << 30  # of coded images that are kept in memory
DEAD_NS = 30_000_000_000  # without any progress after which a disk is given up
FPS = 25.0  # of a source that does not say; nothing but the length of the last frame depends on it
STOPPED = "stopped"  # how a session ends that was closed as it should be
TOO_SLOW = "the recorder could not keep up"
PACKAGES = ("clesr", "av", "numpy", "torch", "openvino")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """How to record. ``codec`` of SR is ffv1 or hevc, ``retro_s`` the seconds kept before a recording begins,
    ``pixel_um`` the size of a captured pixel in micrometres, ``settings`` what session.json repeats; ``started`` is
    the wall-clock time of the first frame where it is another than that at which it comes."""

    codec: str = "ffv1"
    retro_s: float = 0.0
    pixel_um: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    started: str | None = None
    retro_bytes: int = RETRO_BYTES
    waiting_bytes: int = WAITING_BYTES


class Recorder(Watch):
    """Records a source's frames and their results into session folders; also the sink of the results.

    ``start`` and ``stop`` may be called at any time from any thread, also in signal handlers: they take effect at
    the next captured frame. ``sr_shape`` gives the shape of the SR image for a captured one. A live source is
    never made to wait: a frame that the disk has no time for is recorded as such, without pixels. When writing
    fails the recording is closed with what is there, the run goes on, and ``close`` raises the SessionError.
    """

    name = "recorder"
    policy = Policy.ALL

    def __init__(
        self,
        source: SourceInfo,
        *,
        scale: int,
        sr_shape: Callable[[tuple[int, int]], tuple[int, int]],
        settings: RecorderSettings | None = None,
        clock: Clock = SYSTEM,
        tell: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self.source, self.scale, self.sr_shape = source, scale, sr_shape
        self.settings, self.clock, self.tell = settings or RecorderSettings(), clock, tell
        self._inbox = Inbox(self.settings.waiting_bytes)
        self._switching = threading.RLock()  # guards the next three against each other
        self._wanted = self.settings.retro_s > 0  # whether frames are taken notice of
        self._ordered = self._handled = 0  # recordings
        self._recording = self._disk_is_dead = False
        self._full_since_ns: int | None = None
        self._progress_ns = 0
        # Of the source thread:
        self._timeline = Timeline(TICK, 1 / Fraction(source.fps or FPS).limit_denominator(1001))
        # Of the sink thread:
        self._sr_coder: Coder | None = None
        # Of the recorder thread:
        self._folder: Path | None = None  # of the recording that begins with the next image
        self._writer: SessionWriter | None = None
        self._closing: list[SessionWriter] = []  # stopped, but some frames are still without an outcome
        self._early: list[Entry] = []  # lost and corrupt frames before the first image of a recording
        self._retro = Retro(self.settings.retro_s, self.settings.retro_bytes)
        self._open: dict[int, Entry] = {}  # entries that will still change
        self._raw_coder: Coder | None = None
        self._key_wanted = True
        self._missed = 0
        self._synced_ns = 0
        self._reports: list[str] = []
        self._error: SessionError | None = None
        self._thread = threading.Thread(target=self._work, name="clesr recorder", daemon=True)
        self._thread.start()

    # --- any thread

    @property
    def recording(self) -> bool:
        """Whether captured frames are being recorded now."""
        return self._recording

    def start(self, folder: Path) -> None:
        """Record into the new ``folder`` from the next frame on, or from before where ``retro_s`` says so."""
        with self._switching:
            self._wanted = self._recording = True
            self._ordered += 1
        self._inbox.put(partial(self._start, folder))

    def stop(self) -> None:
        """End the recording; the session is closed when the last of its frames has its outcome."""
        self._recording = False
        self._inbox.put(self._stop)

    # --- source thread

    def capture(self, frame: Frame) -> None:
        """Waits for the disk only where the source is recorded input."""
        if not self._wanted:
            return
        ticks = self._timeline.place(frame)
        entry = Entry(Record(number=frame.number, captured_ns=frame.time_ns, ticks=ticks))
        image = frame.image
        if self._inbox.put(partial(self._on_frame, entry, image), image.nbytes, wait=not self.source.live):
            self._full_since_ns = None
            return
        entry.set(reason=TOO_SLOW)
        self._inbox.put(partial(self._on_missed, entry, image.shape, image.dtype))
        self._give_up_on_a_dead_disk()

    def lose(self, number: int, count: int, time_ns: int) -> None:
        if self._wanted:
            record = Record(number=number, count=count, captured_ns=time_ns, outcome=Outcome.LOST)
            self._inbox.put(partial(self._admit, Entry(record, settled=True)))

    def spoil(self, item: Corrupt) -> None:
        if self._wanted:
            record = Record(
                number=item.number, captured_ns=item.time_ns, outcome=Outcome.CORRUPT, reason=item.reason
            )
            self._inbox.put(partial(self._admit, Entry(record, settled=True)))

    def prepared(self, number: int, time_ns: int, levels: tuple[float, float] | None) -> None:
        if self._wanted:
            self._inbox.put(partial(self._on_prepared, number, time_ns, levels))

    # --- source and engine thread

    def settle(self, number: int, outcome: Outcome) -> None:
        if self._wanted:
            self._inbox.put(partial(self._on_settled, number, {"outcome": outcome}, None))

    def settle_result(self, result: Result, engine: EngineInfo | None) -> None:
        if self._wanted:
            values = {
                "outcome": result.outcome,
                "submitted_ns": result.times.submitted,
                "collected_ns": result.times.collected,
                "fidelity": result.fidelity,
            }
            self._inbox.put(partial(self._on_settled, result.frame.number, values, engine))

    # --- sink thread

    def write(self, result: Result) -> None:
        """Code the SR image. Waits for the disk: then the engine sheds frames, and the raw ones come through."""
        if not self._wanted:
            return
        image, number = result.image, result.frame.number
        coder = self._sr_coder = self._coder(self._sr_coder, self.settings.codec, image, encoder_threads())
        try:
            picture = coder.code(image, 0, key=self._key_wanted)
        except WRITING_ERRORS as error:
            self._inbox.put(partial(self._on_sr, number, coder, f"the SR image could not be coded: {error}"))
            return
        self._inbox.put(partial(self._on_sr, number, coder, picture), len(picture.data), wait=True, share=0.5)

    def close(self) -> str | None:
        """Close every session; what was recorded, in a line. Raises the SessionError that ended a recording."""
        self._inbox.close()
        if self._thread.is_alive():
            self._thread.join()
        if self._error is not None:
            raise self._error
        return "; ".join(self._reports) or None

    # --- recorder thread

    def _work(self) -> None:
        try:
            while True:
                try:
                    work = self._inbox.get(SYNC_NS / 1e9)
                except Closed:
                    break
                if work is not None:
                    work()
                self._progress_ns = self.clock.now_ns()
                if self._progress_ns - self._synced_ns >= SYNC_NS:
                    self._synced_ns = self._progress_ns
                    for writer in self._writers():
                        self._guarded(writer, writer.sync)
        except Exception as error:  # noqa: BLE001 - raised by close, on the main thread
            self._error = SessionError(f"the recorder failed: {type(error).__name__}: {error}")
            self.tell(str(self._error))
        finally:
            self._inbox.close()
            self._recording = self._wanted = False
            for writer in self._writers():
                self._close_writer(writer)

    def _start(self, folder: Path) -> None:
        self._handled += 1
        if self._writer is None and self._folder is None:
            self._open_folder(folder)
        self._rest()

    def _open_folder(self, folder: Path) -> None:
        try:
            make_folder(folder)
        except SessionError as error:
            self.tell(str(error))
            self._recording = False
        else:
            self._folder, self._recording = folder, True

    def _stop(self) -> None:
        if self._folder is not None:
            self.tell(f"nothing was recorded in {self._folder}: no frame came")
            self._folder, self._early = None, []
        writer, self._writer = self._writer, None
        if writer is not None:
            self._closing.append(writer)
            self._close_when_settled(writer)
        self._rest()

    def _on_frame(self, entry: Entry, image: Image) -> None:
        self._meet(image.shape, image.dtype)
        coder = self._raw_coder = self._coder(self._raw_coder, "ffv1", image, raw_threads())
        entry.raw = coder.code(image, 0)
        self._begin(entry)
        self._admit(entry)

    def _on_missed(self, entry: Entry, shape: tuple[int, int], dtype: np.dtype[np.generic]) -> None:
        self._meet(shape, dtype)
        if self._writer is not None and not self._missed:
            self.tell(
                f"the disk is too slow for the recording {self._writer.folder}: frames are missing from it; "
                "their numbers are in it"
            )
        self._missed += 1
        self._admit(entry)

    def _on_prepared(self, number: int, time_ns: int, levels: tuple[float, float] | None) -> None:
        entry = self._open.get(number)
        if entry is not None:
            entry.set(prepared_ns=time_ns, levels=levels)

    def _on_settled(self, number: int, values: dict[str, Any], engine: EngineInfo | None) -> None:
        entry = self._open.get(number)
        if entry is None:
            return
        entry.set(**values)
        entry.settled, entry.sr_due, entry.engine = True, "collected_ns" in values, engine
        self._settled(entry)

    def _on_sr(self, number: int, coder: Coder, picture: Picture | str) -> None:
        """The SR ``picture`` of a frame, or why there is none."""
        entry = self._open.get(number)
        if entry is None:
            return
        entry.sr_due = False
        if isinstance(picture, str):
            entry.set(reason=picture)
        else:
            entry.sr, entry.sr_coder = picture, coder
            if entry.writer is not None:
                self._guarded(entry.writer, partial(entry.writer.add_sr, entry))
                self._key_wanted = entry.writer.needs_key
            elif entry.kept:
                self._retro.grew(len(picture.data))
                self._key_wanted = False
        self._settled(entry)

    def _admit(self, entry: Entry) -> None:
        """``entry`` goes into the recording, else to those that one begun late would contain."""
        if self._folder is not None:
            self._early.append(entry)
        elif self._writer is not None:
            self._guarded(self._writer, partial(self._writer.add, entry))
        elif self.settings.retro_s > 0:
            self._retro.add(entry)
        else:
            return
        if not entry.complete:
            self._open[entry.record.number] = entry

    def _begin(self, entry: Entry) -> None:
        """The first image of a recording: make its session, with what was kept."""
        if self._folder is None:
            return
        folder, self._folder = self._folder, None
        entries = [*self._retro.take(), *self._early]
        self._early = []
        assert self._raw_coder is not None
        first = entries[0] if entries else entry
        try:
            writer = SessionWriter(folder, self._describe(first.record, self._raw_coder), self._raw_coder)
        except (*WRITING_ERRORS, ClesrError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._error = SessionError(f"no recording can be made in {folder}: {reason}")
            self.tell(str(self._error))
            self._recording = False
            return
        self._writer, self._missed, self._key_wanted = writer, 0, True
        self.tell(f"recording to {folder}")
        for earlier in entries:
            self._guarded(writer, partial(writer.add, earlier))

    def _meet(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        """Frames of another size or depth: the recording goes on in a folder of its own."""
        coder = self._raw_coder
        if coder is None or (coder.shape, coder.dtype) == (shape, dtype):
            return
        self._retro.take()
        if self._writer is None:
            return
        folder = next_folder(self._writer.folder)
        self.tell(f"frames are {shape[1]}x{shape[0]} {dtype} now: the recording goes on in {folder}")
        writer, self._writer = self._writer, None
        self._closing.append(writer)
        self._close_when_settled(writer)
        self._open_folder(folder)

    def _settled(self, entry: Entry) -> None:
        if not entry.complete:
            return
        self._open.pop(entry.record.number, None)
        writer = entry.writer
        if writer is not None:
            self._guarded(writer, partial(writer.complete, entry))
            if writer in self._closing:
                self._close_when_settled(writer)

    def _close_when_settled(self, writer: SessionWriter) -> None:
        if not writer.waiting:
            self._close_writer(writer)
            if writer.info.ended == STOPPED:
                self.tell(f"recorded {self._reports[-1]}")

    def _close_writer(self, writer: SessionWriter) -> None:
        self._guarded(writer, partial(writer.close, STOPPED))
        self._forget(writer)
        if writer.info.ended == STOPPED:
            self._reports.append(report(writer))

    def _guarded(self, writer: SessionWriter, work: Callable[[], None]) -> None:
        """Do ``work`` of ``writer``. Where it fails the session is closed with what is on the disk."""
        if writer not in self._writers():
            return
        try:
            if self._disk_is_dead:
                raise SessionError(f"the disk took nothing for {DEAD_NS / 1e9:.0f} s")
            work()
        except (*WRITING_ERRORS, SessionError) as error:
            self._forget(writer)
            self._fail(writer, error)

    def _fail(self, writer: SessionWriter, error: Exception) -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        self.tell(f"the recording {writer.folder} ends: {reason}; the live view goes on")
        try:
            writer.fail(f"writing failed: {reason}")
        except WRITING_ERRORS:
            end = "it could not be closed: run `clesr repair` on it where there is space"
        else:
            end = f"what is on the disk is closed and valid: {report(writer)}"
        self._error = SessionError(f"the recording {writer.folder} ended early: {reason}; {end}")

    def _forget(self, writer: SessionWriter) -> None:
        """``writer`` takes nothing more."""
        if writer is self._writer:
            self._writer, self._recording = None, False
        elif writer in self._closing:
            self._closing.remove(writer)
        self._open = {n: entry for n, entry in self._open.items() if entry.writer is not writer}
        self._rest()

    def _rest(self) -> None:
        """Take no more notice of frames where nothing is recorded or kept, and no recording was ordered."""
        with self._switching:
            busy = self._writers() or self._folder is not None or self.settings.retro_s > 0
            if not busy and self._ordered == self._handled:
                self._wanted = False

    # --- small parts

    def _writers(self) -> list[SessionWriter]:
        return [*self._closing, *([self._writer] if self._writer is not None else [])]

    def _coder(self, coder: Coder | None, codec: str, image: Image, threads: int) -> Coder:
        """``coder`` where it is for images like ``image``, else a new one."""
        if coder is not None and (coder.shape, coder.dtype) == (image.shape, image.dtype):
            return coder
        shape = (image.shape[0], image.shape[1])
        return Coder(codec, shape, image.dtype, fps=self.source.fps or FPS, threads=threads)

    def _give_up_on_a_dead_disk(self) -> None:
        """So that what waits stays bounded. The recorder thread closes the session if it ever comes back."""
        now = self.clock.now_ns()
        if self._full_since_ns is None:
            self._full_since_ns = now
        if now - max(self._full_since_ns, self._progress_ns) > DEAD_NS and not self._disk_is_dead:
            self._disk_is_dead, self._wanted, self._recording = True, False, False
            self.tell(f"the disk took nothing for {DEAD_NS / 1e9:.0f} s: the recording ends")

    def _describe(self, first: Record, raw: Coder) -> SessionInfo:
        """The session of which ``first`` is the first frame."""
        since = timedelta(microseconds=(self.clock.now_ns() - first.captured_ns) / 1e3)
        started = (datetime.now().astimezone() - since).isoformat(timespec="microseconds")
        return SessionInfo(
            id=uuid.uuid4().hex,
            started=self.settings.started or started,
            started_ns=first.captured_ns,
            first=first.number,
            source=self.source.address,
            live=self.source.live,
            fps=self.source.fps,
            pixel_um=self.settings.pixel_um,
            scale=self.scale,
            raw_shape=raw.shape,
            sr_shape=self.sr_shape(raw.shape),
            dtype=raw.dtype.name,
            sr_codec=self.settings.codec,
            settings=self.settings.settings,
            versions=versions(),
        )


def report(writer: SessionWriter) -> str:
    """What a closed session holds, in a few words."""
    totals = writer.totals
    size = sum(path.stat().st_size for path in writer.folder.iterdir()) / 1e6
    missing = f", {totals['unrecorded']} captured without pixels" if totals["unrecorded"] else ""
    return f"{writer.folder}: {totals['raw']} frames, {totals['sr']} up-scaled{missing}, {size:.1f} MB"


def next_folder(folder: Path) -> Path:
    """``NAME-2`` after ``NAME``, ``NAME-3`` after ``NAME-2``: the first that does not exist."""
    stem, _, number = folder.name.rpartition("-")
    if not (stem and number.isdigit()):
        stem, number = folder.name, "1"
    count = int(number)
    while True:
        count += 1
        following = folder.with_name(f"{stem}-{count}")
        if not following.exists():
            return following


def versions() -> dict[str, str]:
    """Versions of what makes a recording and its SR images."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
