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

from clesr.engines import EngineInfo
from clesr.pipeline.clock import SYSTEM, Clock
from clesr.pipeline.frame import Corrupt, Frame, Outcome, Result
from clesr.pipeline.mailbox import Policy
from clesr.pipeline.session.coding import TICK, Coder, coder_for
from clesr.pipeline.session.format import Record
from clesr.pipeline.session.provenance import Provenance
from clesr.pipeline.session.recorder_thread import RecorderThread
from clesr.pipeline.session.settings import RecorderSettings
from clesr.pipeline.session.watchdog import DEAD
from clesr.pipeline.session.writer import WRITING_ERRORS, Entry
from clesr.pipeline.sinks.encoding import encoder_threads
from clesr.pipeline.sinks.timeline import Timeline
from clesr.pipeline.sources.base import SourceInfo
from clesr.pipeline.watch import Watch

__all__ = ["Recorder", "RecorderSettings"]

FPS = 25.0  # of a source that does not say; nothing but the length of the last frame depends on it
TOO_SLOW = "the recorder could not keep up"


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
        self.source, self.settings, self.clock, self.tell = (
            source,
            settings or RecorderSettings(),
            clock,
            tell,
        )
        self._fps = source.fps or FPS
        provenance = Provenance(source, scale, sr_shape, self.settings, clock)
        self._thread = RecorderThread(
            self.settings, provenance.describe, fps=self._fps, clock=clock, tell=tell
        )
        self._inbox, self._trigger = self._thread.inbox, self._thread.trigger
        self._watchdog = self._thread.watchdog
        # Of the source thread:
        self._timeline = Timeline(TICK, 1 / Fraction(self._fps).limit_denominator(1001))
        # Of the sink thread:
        self._sr_coder: Coder | None = None

    # --- any thread

    @property
    def recording(self) -> bool:
        """Whether captured frames are being recorded now."""
        return self._trigger.recording

    def start(self, folder: Path) -> None:
        """Record into the new ``folder`` from the next frame on, or from before where ``retro_s`` says so."""
        self._trigger.order()
        self._inbox.put(partial(self._thread.start, folder))

    def stop(self) -> None:
        """End the recording; the session is closed when the last of its frames has its outcome."""
        self._trigger.recording = False
        self._inbox.put(self._thread.stop)

    # --- source thread

    def capture(self, frame: Frame) -> None:
        """Waits for the disk only where the source is recorded input."""
        if not self._trigger.armed:
            return
        ticks = self._timeline.place(frame)
        entry = Entry(Record(number=frame.number, captured_ns=frame.time_ns, ticks=ticks))
        image = frame.image
        letter = partial(self._thread.on_frame, entry, image, self.clock.now_ns())
        if self._inbox.put(letter, image.nbytes, wait=not self.source.live):
            self._watchdog.room()
            return
        entry.set(reason=TOO_SLOW)
        self._inbox.put(partial(self._thread.on_missed, entry, image.shape, image.dtype))
        if self._watchdog.full():
            self._trigger.disarm()
            self.tell(f"{DEAD}: the recording ends")

    def lose(self, number: int, count: int, time_ns: int) -> None:
        record = Record(number=number, count=count, captured_ns=time_ns, outcome=Outcome.LOST)
        self._post(self._thread.admit, Entry(record, settled=True))

    def spoil(self, item: Corrupt) -> None:
        record = Record(
            number=item.number, captured_ns=item.time_ns, outcome=Outcome.CORRUPT, reason=item.reason
        )
        self._post(self._thread.admit, Entry(record, settled=True))

    def prepared(self, number: int, time_ns: int, levels: tuple[float, float] | None) -> None:
        self._post(self._thread.on_prepared, number, time_ns, levels)

    # --- source and engine thread

    def settle(self, number: int, outcome: Outcome) -> None:
        self._post(self._thread.on_settled, number, {"outcome": outcome}, None)

    def settle_result(self, result: Result, engine: EngineInfo | None) -> None:
        values = {
            "outcome": result.outcome,
            "submitted_ns": result.times.submitted,
            "collected_ns": result.times.collected,
            "fidelity": result.fidelity,
        }
        self._post(self._thread.on_settled, result.frame.number, values, engine)

    def _post(self, work: Callable[..., None], *arguments: object) -> None:
        if self._trigger.armed:
            self._inbox.put(partial(work, *arguments))

    # --- sink thread

    def write(self, result: Result) -> None:
        """Code the SR image. Waits for the disk: then the engine sheds frames, and the raw ones come through."""
        if not self._trigger.armed:
            return
        image, number = result.image, result.frame.number
        coder = self._sr_coder = coder_for(
            image, self._sr_coder, self.settings.codec, fps=self._fps, threads=encoder_threads()
        )
        try:
            picture = coder.code(image, 0, key=self._thread.key_wanted)
        except WRITING_ERRORS as error:
            self._post(self._thread.on_sr, number, coder, f"the SR image could not be coded: {error}")
            return
        letter = partial(self._thread.on_sr, number, coder, picture)
        self._inbox.put(letter, len(picture.data), wait=True, share=0.5)

    def close(self) -> str | None:
        """Close every session; what was recorded, in a line. Raises the SessionError that ended a recording."""
        self._inbox.close()
        return self._thread.finish()
