"""The recorder of a live run: every captured frame as it was, whatever becomes of engine and display.

    source thread: capture, lose, spoil, settle -\\
    engine thread: settle                         >  messages -> recorder thread -> committer
    sink thread: write (encodes the SR image)   -/           encodes, writes       syncs, closes

So an outcome always comes after its frame, and no lock is needed.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from clesr.engines.common.clock import ASSUMED_FPS, SYSTEM, Clock
from clesr.pipeline.alarms import Alarms
from clesr.pipeline.frame import (
    Corrupt,
    Frame,
    Gap,
    Image,
    Outcome,
    PreparedFrame,
    Result,
    Timeline,
    period_of,
)
from clesr.pipeline.frame_queue import Closed, Policy
from clesr.pipeline.messages import SafeLogger, stream_thread
from clesr.pipeline.observer import FrameObserver
from clesr.pipeline.session.format import (
    LOW_DISK,
    TICK,
    EndedEarlyError,
    Record,
    SessionError,
    SessionNote,
    cause,
)
from clesr.pipeline.session.manifest import Provenance, RecorderSettings
from clesr.pipeline.session.segments import NoteFuture, Segments
from clesr.pipeline.session.video import EncodedImage, ImageEncoder, ImageFormat
from clesr.pipeline.session.writer import Entry
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.video.encoding import encoder_threads

log = SafeLogger(logging.getLogger(__name__))
T = TypeVar("T")
LOOK_S = 0.1  # longest wait for a message before it is looked whether a commit has ended, or is due
MESSAGE = 512  # bytes that a message counts for besides its image
NOTHING_KEPT = "no earlier frames are kept; --retro S keeps those of the last S seconds"
TOO_SLOW = "the recorder could not keep up: the disk or the processor is too slow for it"


class MessageQueue:
    """Work from several threads to one, in order; images of at most ``budget`` bytes wait with it."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.messages: deque[tuple[Callable[[], None], int]] = deque()
        self._cost = 0
        self._changed = threading.Condition()
        self._closed = False

    def put(
        self, message: Callable[[], None], image: int = 0, *, wait: bool = False, share: float = 1.0
    ) -> bool:
        """Hand ``message`` over with an ``image`` of so many bytes, where ``share`` of the budget has room for it or
        nothing waits; False where not.

        ``wait`` waits for room. A message without an image always has room. False too once the queue is closed.
        """
        with self._changed:
            while not self._closed and image and self.messages and self._cost + image > share * self.budget:
                if not wait:
                    return False
                self._changed.wait()
            if self._closed:
                return False
            self.messages.append((message, image + MESSAGE))
            self._cost += image + MESSAGE
            self._changed.notify_all()
            return True

    def get(self, timeout: float) -> Callable[[], None] | None:
        """The oldest message, None after ``timeout`` seconds without; raises Closed on a closed and empty queue."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self.messages) or self._closed, timeout)
            if self.messages:
                message, cost = self.messages.popleft()
                self._cost -= cost
                self._changed.notify_all()
                return message
            if self._closed:
                raise Closed
            return None

    @property
    def over_budget(self) -> bool:
        """Whether more waits than images alone could make wait."""
        return self._cost > self.budget

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Recorder(FrameObserver):
    """Records a source's frames and their results into session folders; also the sink of the results. Where the disk is
    nearly full (``DiskRoom``), results are left out.

    ``start`` and ``stop`` may be called at any time from any thread, also in signal handlers: they take effect at
    the next captured frame. ``sr_shape`` gives the shape (H, W) of the SR image for a captured one, where only a part
    of it is up-scaled (``Prepare.shape``). A live source is never made to wait: a frame that the disk has no time for
    is recorded as such, without pixels. When writing fails the recording is closed with what is there, the run goes
    on, and ``close`` raises an EndedEarlyError. Nothing else ends a recording: neither frames that cannot be encoded,
    nor a logging handler that raises.
    """

    name = "recorder"
    policy = Policy.BLOCK

    def __init__(
        self,
        source: SourceInfo,
        *,
        scale: int,
        sr_shape: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
        settings: RecorderSettings | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.source, self.settings, self.clock = source, settings or RecorderSettings(), clock
        self._fps = source.fps or ASSUMED_FPS  # nothing but the length of the last frame depends on it
        whole = sr_shape or (lambda raw: (raw[0] * scale, raw[1] * scale))
        provenance = Provenance(source, scale, whole, self.settings, clock)
        self._segments = Segments(provenance, fps=self._fps)
        self._trigger, self._watchdog = self._segments.trigger, self._segments.watchdog
        self._queue = MessageQueue(self.settings.waiting_bytes)
        self._timeline = Timeline(TICK, period_of(self._fps))  # of the source thread
        codec, aspect = self.settings.codec, source.pixel_aspect
        self._new_encoder = partial(
            ImageEncoder, codec, fps=self._fps, threads=encoder_threads(), pixel_aspect=aspect
        )
        self._encoder: ImageEncoder | None = None  # of the sink thread
        self._made: tuple[int, str] | None = None  # scale and model of the last image, of the sink thread
        self._thread = stream_thread("clesr recorder", self._work)
        self._thread.start()

    @property
    def recording(self) -> bool:
        """Whether captured frames are being recorded now."""
        return self._trigger.recording

    @property
    def armed(self) -> bool:
        return self._trigger.armed

    @property
    def alarm(self) -> str | None:
        """Where a recording that was asked for ended early, or could not begin: why, in a line; else None. It stays,
        whatever is recorded later; ``close`` says the same, as an error."""
        return self._segments.alarm or next(reversed(self._segments.failures), None)

    @property
    def trouble(self) -> str:
        """Why nothing is recorded now although that is wanted; else empty. Any thread."""
        missing = self._trigger.wanted and not self._trigger.recording
        return (self.alarm or "nothing is recorded") if missing else ""

    @property
    def alarms(self) -> Alarms:
        return self._segments.alarms

    def status(self) -> dict[str, Any]:
        """What a Status says of recording. Any thread; never waits for the disk."""
        recording, spans, room = self._trigger.recording, self._segments.recorded_ns, self._segments.room
        return {
            "recording": recording,
            "recording_s": ((spans[1] - spans[0]) / 1e9 if spans else 0.0) if recording else None,
            "disk_minutes": room.minutes if recording else None,
            "recording_bytes": room.size if recording else None,
            "disk_bytes": room.free if recording else None,
            "disk_low": room.low and recording,
        }

    def acknowledge(self, alarm: str = "", number: int | None = None) -> str:
        """The ``alarm`` was seen, "" for the one that is shown, with frame ``number``; which it was, "" where it does
        not wait. A line and a note in the session that is recorded say so. Any thread."""
        seen = self._segments.alarms.acknowledge(alarm)
        if seen:
            log.info(f"alarm acknowledged: {seen}")
            self.note(f"alarm acknowledged: {seen}", number)  # where nothing is recorded the line must do
        return seen

    def note(self, text: str, number: int | None = None, time_ns: int | None = None) -> NoteFuture:
        """Put ``text``, noted at ``time_ns``, or now, about frame ``number``, into the session that is recorded: its
        folder, and the seconds since its first frame, None where it is to begin with the next image; where none comes,
        an alarm says that the note is lost. SessionError where nothing is recorded. Any thread."""
        done: NoteFuture = Future()
        time_ns = self.clock.now_ns() if time_ns is None else time_ns
        note = SessionNote(time_ns=time_ns, number=number, text=text)
        return self._ask(done, partial(self._segments.note, note, done))

    def save_last(self, folder: Path, seconds: float | None = None) -> Future[tuple[Path, int]]:
        """Write the last ``seconds`` that are kept for a recording, None for all, into the new ``folder``, or into
        ``NAME-2`` and so on where something is in it: its name, and how many frames it has. SessionError where that
        cannot be, or nothing is kept. Any thread."""
        done: Future[tuple[Path, int]] = Future()
        kept = self.settings.retro_s
        if kept <= 0:
            done.set_exception(SessionError(NOTHING_KEPT))
            return done
        return self._ask(done, partial(self._segments.save_last, folder, seconds or kept, done))

    def _ask(self, done: Future[T], work: Callable[[], None]) -> Future[T]:
        """Have the recorder thread do ``work``, by which ``done`` gets its result; SessionError where that breaks."""

        def settle() -> None:
            try:
                work()
            except Exception as error:
                if not done.done():
                    done.set_exception(SessionError(f"the recorder failed: {cause(error)}"))
                raise

        if not self._queue.put(settle):
            done.set_exception(SessionError("the run has ended"))
        return done

    def start(self, folder: Path, *, or_next: bool = False) -> Future[Path]:
        """Record into the new ``folder`` from the next frame on, or from before where ``retro_s`` says so. ``or_next``:
        where something is in it, into ``NAME-2`` and so on. Never waits for the disk: which folder it is comes later, a
        SessionError where none can be made."""
        done: Future[Path] = Future()
        self._trigger.order(True)
        start = partial(self._segments.start, folder, done, or_next=or_next, after_dead=self._watchdog.dead)
        return self._ask(done, start)

    def stop(self) -> None:
        """End the recording; the session is closed when the last of its frames has its outcome."""
        self._trigger.order(False)
        self._queue.put(self._segments.stop)

    def state(self, settings: Mapping[str, Any]) -> None:
        self._queue.put(partial(self._segments.state, dict(settings)))

    def switch(self, scale: int, name: str, settings: Mapping[str, Any]) -> None:
        """The recording goes on in a folder of its own: each session is of one engine."""
        self._queue.put(partial(self._segments.switch, scale, name, dict(settings)))

    @property
    def steps(self) -> int:
        """How much of what waited was recorded. Any thread."""
        return self._watchdog.steps

    def begin(self) -> None:
        self._queue.put(self._segments.begin)

    def capture(self, frame: Frame, remark: str = "") -> None:
        """Waits for the disk only where the source is recorded input."""
        if not self._trigger.armed:
            return
        image, ticks = frame.image, self._timeline.place(frame)
        entry = Entry(
            Record(
                number=frame.number,
                captured_ns=frame.time_ns,
                ticks=ticks,
                damaged=frame.damaged,
                reason=remark or None,
            )
        )
        message = partial(self._segments.on_frame, entry, image, self.clock.now_ns())
        if self._queue.put(message, image.nbytes, wait=not self.source.live):
            self._watchdog.wait = None
            return
        images = ImageFormat(image.shape, image.dtype)
        self._queue.put(partial(self._segments.on_missed, entry, images, TOO_SLOW))
        if self._watchdog.full():
            self._segments.declare_dead()

    def lose(self, number: int, count: int, time_ns: int) -> None:
        self._admit(Record(number=number, count=count, captured_ns=time_ns, outcome=Outcome.LOST))

    def miss(self, gap: Gap) -> None:
        number = "an unknown number of frames" if gap.count is None else f"{gap.count} frames"
        record = Record(
            number=gap.number,
            count=gap.count or 0,
            captured_ns=gap.end_ns,
            outcome=Outcome.LOST,
            gap_ns=(gap.begin_ns, gap.end_ns),
            reason=f"the source was away for {gap.seconds:.2f} s: {number} lost",
        )
        self._admit(record)

    def spoil(self, item: Corrupt) -> None:
        record = Record(
            number=item.number, captured_ns=item.time_ns, outcome=Outcome.CORRUPT, reason=item.reason
        )
        self._admit(record)
        if self._queue.over_budget and self._trigger.armed and self._watchdog.full():
            self._segments.declare_dead()  # no frame may ever come that would find no room

    def settle(
        self, number: int, outcome: Outcome, reason: str = "", prepared: PreparedFrame | None = None
    ) -> None:
        values: dict[str, Any] = {"outcome": outcome}
        if prepared is not None:
            values |= {"prepared_ns": prepared.prepared_ns, "levels": prepared.levels}
        cores = None if prepared is None else prepared.cores
        self._post(self._segments.on_settled, number, values, None, reason, cores)

    def settle_result(self, result: Result) -> None:
        values = {
            "outcome": result.outcome,
            "prepared_ns": result.times.prepared,
            "levels": result.levels,
            "submitted_ns": result.times.submitted,
            "collected_ns": result.times.collected,
            "fidelity": result.fidelity,
        }
        if result.frames is not None:
            values["frames"] = math.ceil(result.frames * 100) / 100  # 1 means exactly that
        if result.told is not None:
            values |= {"noise": astuple(result.told.levels), "trusted": result.told.trusted}
        self._post(self._segments.on_settled, result.frame.number, values, result.engine, "", result.cores)

    def _admit(self, record: Record) -> None:
        """A frame that never came."""
        self._post(self._segments.admit, Entry(record, settled=True))

    def _post(self, work: Callable[..., None], *arguments: object) -> None:
        if self._trigger.armed:
            self._queue.put(partial(work, *arguments))

    def write(self, result: Result) -> None:
        """Encode the SR image. Waits for the disk: then the engine sheds frames, and the raw ones come through."""
        if not self._trigger.armed:
            return
        number = result.frame.number
        if self._segments.room.low and self._trigger.recording:
            self._queue.put(partial(self._segments.on_sr, number, LOW_DISK))
            return
        entry = self._segments.open.get(number)
        other = entry is not None and entry.other  # of another size than its session, which says so
        made = (result.scale, result.model)
        if made != self._made:
            self._made, self._encoder = made, None  # another session: its first picture needs none before it
        image = "" if other else self._encode(result.image)
        size = 0 if isinstance(image, str) else len(image.data)
        self._queue.put(partial(self._segments.on_sr, number, image), size, wait=True, share=0.5)

    def _encode(self, image: Image) -> EncodedImage | str:
        """The encoded SR ``image``, or why there is none."""
        images = ImageFormat(image.shape, image.dtype)
        try:
            encoder = self._encoder
            if encoder is None or encoder.images != images:
                encoder = self._new_encoder(images)
            encoded = encoder.encode(image, key=self._segments.key_wanted)
        except Exception as error:  # noqa: BLE001 - whatever an encoder raises, raw and other frames are recorded
            return f"the SR image could not be coded: {cause(error)}"
        self._encoder = encoder
        return encoded

    def skip(self, result: Result) -> None:
        """The SR image of ``result`` does not come: the sink thread was too slow for it, or the run was aborted."""
        self._post(self._segments.on_sr, result.frame.number, TOO_SLOW)

    def close(self) -> str | None:
        """Close every session; what was recorded, in a line. Raises EndedEarlyError where a recording that was
        asked for ended early, or nothing of it was recorded."""
        self._queue.close()
        self._encoder = None  # its threads must not wait for the last who knows this recorder
        self._thread.join()
        if self._segments.errors:
            raise EndedEarlyError("; ".join(self._segments.errors))
        return "; ".join(self._segments.reports) or None

    def _work(self) -> None:
        """Hand messages on until the queue is closed and empty. Whatever breaks, it goes on."""
        with suppress(Closed):
            while True:
                self._segments.handle(self._queue.get(LOOK_S), self._queue.messages)
                self._watchdog.steps += 1
        self._segments.handle(self._segments.close, ())
