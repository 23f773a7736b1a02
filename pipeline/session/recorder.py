"""The recorder of a live run: every captured frame as it was, whatever becomes of engine and display.

    source thread: capture, lose, spoil, prepared, settle -\\
    engine thread: settle                                   >  inbox -> recorder thread -> checkpointer
    sink thread: write (codes the SR image)               -/             codes, writes     syncs, closes
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.engine import EngineInfo
from clesr.pipeline.frame import Corrupt, Frame, Image, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.observer import FrameObserver
from clesr.pipeline.session.checkpointer import cause
from clesr.pipeline.session.coding import TICK, Coder, Picture, coder_for
from clesr.pipeline.session.format import Record
from clesr.pipeline.session.inbox import Inbox
from clesr.pipeline.session.provenance import Provenance
from clesr.pipeline.session.recorder_thread import RecorderThread
from clesr.pipeline.session.sessions import Sessions
from clesr.pipeline.session.settings import RecorderSettings
from clesr.pipeline.session.teller import Teller
from clesr.pipeline.session.trigger import Trigger
from clesr.pipeline.session.watchdog import Watchdog
from clesr.pipeline.session.writer import Entry
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.video.encoding import encoder_threads
from clesr.pipeline.video.timeline import Timeline

__all__ = ["Recorder", "RecorderSettings"]

FPS = 25.0  # of a source that does not say; nothing but the length of the last frame depends on it
TOO_SLOW = "the recorder could not keep up: the disk or the processor is too slow for it"


class Recorder(FrameObserver):
    """Records a source's frames and their results into session folders; also the sink of the results.

    ``start`` and ``stop`` may be called at any time from any thread, also in signal handlers: they take effect at
    the next captured frame. ``sr_shape`` gives the shape of the SR image for a captured one. A live source is
    never made to wait: a frame that the disk has no time for is recorded as such, without pixels. When writing
    fails the recording is closed with what is there, the run goes on, and ``close`` raises the SessionError. Nothing
    else ends a recording: neither frames that cannot be coded, nor a ``tell`` that raises.
    """

    name = "recorder"
    policy = Policy.BLOCK

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
        self.source, self.settings, self.clock = source, settings or RecorderSettings(), clock
        self._fps = source.fps or FPS
        provenance = Provenance(source, scale, sr_shape, self.settings, clock)
        self._trigger = Trigger(armed=self.settings.retro_s > 0)
        self._watchdog = Watchdog(clock)
        self._sessions = Sessions(
            self.settings,
            provenance.describe,
            trigger=self._trigger,
            watchdog=self._watchdog,
            fps=self._fps,
            clock=clock,
            tell=Teller(tell),
        )
        self._inbox = Inbox(self.settings.waiting_bytes)
        self._thread = RecorderThread(self._sessions, self._inbox)
        # Of the source thread:
        self._timeline = Timeline(TICK, 1 / Fraction(self._fps).limit_denominator(1001))
        # Of the sink thread:
        self._sr_coder: Coder | None = None

    # --- any thread

    @property
    def recording(self) -> bool:
        """Whether captured frames are being recorded now."""
        return self._trigger.recording

    @property
    def armed(self) -> bool:
        """Whether frames are recorded, or kept for a recording that may begin."""
        return self._trigger.armed

    @property
    def alarm(self) -> str | None:
        """Where a recording that was asked for ended early, or could not begin: why, in a line; else None. It stays,
        whatever is recorded later; ``close`` says the same, as an error."""
        return self._sessions.alarm

    def start(self, folder: Path, *, or_next: bool = False) -> None:
        """Record into the new ``folder`` from the next frame on, or from before where ``retro_s`` says so. ``or_next``:
        where something is in it, into ``NAME-2`` and so on. Never waits for the disk."""
        self._trigger.order()
        self._inbox.put(partial(self._sessions.start, folder, or_next=or_next))

    def stop(self) -> None:
        """End the recording; the session is closed when the last of its frames has its outcome."""
        self._trigger.recording = False
        self._inbox.put(self._sessions.stop)

    # --- source thread

    def capture(self, frame: Frame, remark: str = "") -> None:
        """Waits for the disk only where the source is recorded input."""
        if not self._trigger.armed:
            return
        ticks = self._timeline.place(frame)
        entry = Entry(
            Record(number=frame.number, captured_ns=frame.time_ns, ticks=ticks, reason=remark or None)
        )
        image = frame.image
        letter = partial(self._sessions.on_frame, entry, image, self.clock.now_ns())
        if self._inbox.put(letter, image.nbytes, wait=not self.source.live):
            self._watchdog.room()
            return
        self._inbox.put(partial(self._sessions.on_missed, entry, (image.shape, image.dtype), TOO_SLOW))
        if self._watchdog.full():
            self._sessions.declare_dead()

    def lose(self, number: int, count: int, time_ns: int) -> None:
        record = Record(number=number, count=count, captured_ns=time_ns, outcome=Outcome.LOST)
        self._post(self._sessions.admit, Entry(record, settled=True))

    def spoil(self, item: Corrupt) -> None:
        record = Record(
            number=item.number, captured_ns=item.time_ns, outcome=Outcome.CORRUPT, reason=item.reason
        )
        self._post(self._sessions.admit, Entry(record, settled=True))
        if self._inbox.over_budget and self._trigger.armed and self._watchdog.full():
            self._sessions.declare_dead()  # no frame may ever come that would find no room

    def prepared(self, number: int, time_ns: int, levels: tuple[float, float] | None) -> None:
        self._post(self._sessions.on_prepared, number, time_ns, levels)

    # --- source and engine thread

    def settle(self, number: int, outcome: Outcome, reason: str = "") -> None:
        self._post(self._sessions.on_settled, number, {"outcome": outcome}, None, reason)

    def settle_result(self, result: Result, engine: EngineInfo | None) -> None:
        values = {
            "outcome": result.outcome,
            "submitted_ns": result.times.submitted,
            "collected_ns": result.times.collected,
            "fidelity": result.fidelity,
        }
        self._post(self._sessions.on_settled, result.frame.number, values, engine)

    def _post(self, work: Callable[..., None], *arguments: object) -> None:
        if self._trigger.armed:
            self._inbox.put(partial(work, *arguments))

    # --- sink thread

    def write(self, result: Result) -> None:
        """Code the SR image. Waits for the disk: then the engine sheds frames, and the raw ones come through."""
        if not self._trigger.armed:
            return
        number = result.frame.number
        picture = self._code(number, result.image)
        size = 0 if isinstance(picture, str) else len(picture.data)
        letter = partial(self._sessions.on_sr, number, self._sr_coder, picture)
        self._inbox.put(letter, size, wait=True, share=0.5)

    def _code(self, number: int, image: Image) -> Picture | str:
        """The coded SR ``image`` of frame ``number``, or why there is none; empty where its session says so."""
        if self._sessions.is_other(number):
            return ""
        try:
            coder = coder_for(
                image, self._sr_coder, self.settings.codec, fps=self._fps, threads=encoder_threads()
            )
            picture = coder.code(image, 0, key=self._sessions.key_wanted)
        except Exception as error:  # noqa: BLE001 - whatever a coder raises, raw and the other frames are recorded
            return f"the SR image could not be coded: {cause(error)}"
        self._sr_coder = coder
        return picture

    def skip(self, result: Result) -> None:
        """The SR image of ``result`` does not come: the sink thread was too slow for it, or the run was aborted."""
        self._post(self._sessions.on_sr, result.frame.number, self._sr_coder, TOO_SLOW)

    def close(self) -> str | None:
        """Close every session; what was recorded, in a line. Raises SessionError where a recording that was asked for
        ended early, or nothing of it was recorded."""
        self._inbox.close()
        self._sr_coder = None  # its threads must not wait for the last who knows this recorder
        return self._thread.finish()
