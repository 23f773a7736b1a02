"""What a run says of itself, from what its parts know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clesr.engines.engine import EngineInfo
from clesr.pipeline.alarms import Alarms
from clesr.pipeline.capture import CaptureStage
from clesr.pipeline.engine_stage import EngineClient
from clesr.pipeline.observer import FrameRecorder
from clesr.pipeline.sink_worker import SinkWorker
from clesr.pipeline.source import restarts_of
from clesr.pipeline.stats import RunStats
from clesr.pipeline.status import SinkState, State, Status, Summary
from clesr.pipeline.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class RunReport:
    """The status of a run while it goes on, and its summary. ``sinks`` are there by their names. Any thread."""

    capture: CaptureStage
    client: EngineClient
    sinks: Mapping[str, SinkWorker]
    recorder: FrameRecorder | None
    stats: RunStats
    alarms: Alarms
    watchdog: Watchdog

    @property
    def engine(self) -> EngineInfo | None:
        """What the engine says of itself, None where it is not open yet."""
        shared = self.client.shared
        return shared.live.info if shared else self.client.info

    def status(self, state: State, pixel_um: float | None) -> Status:
        """Where the run stands, which is in ``state``."""
        capture, info, silents, shared = self.capture, self.engine, self.watchdog.silent, self.client.shared
        failure = (shared.live.failure or "") if shared else ""  # why the engine is out of service
        silent = silents.get("engine", "")
        sinks = {name: worker.status(silent=name in silents) for name, worker in self.sinks.items()}
        broken = {
            name: f"it broke: {sink.error}" for name, sink in sinks.items() if sink.state is SinkState.BROKEN
        }
        if self.recorder is not None and (missing := self.recorder.trouble):
            broken.setdefault(self.recorder.name, missing)
        return Status(
            state=State.DEGRADED if silent and state is State.RUNNING else state,
            source=capture.source.info.address,
            engine=str(info or ""),
            model=info.model if info else "",
            **self.stats.status(capture.clock.now_ns()),
            message=failure or silent,
            pixel_um=pixel_um,
            scale=capture.scale,
            switching=capture.engines.words,
            switch_error=capture.engines.error,
            temporal=capture.prepare.temporal is not None,
            cores=capture.prepare.cores is not None and capture.prepare.remove_cores,
            engine_restarts=self.client.restarts,
            source_restarts=restarts_of(capture.source),
            **self.alarms.status(),
            sinks=sinks,
            troubles={**silents, **({"engine": failure} if failure else {}), **broken},
            **(self.recorder.status() if self.recorder is not None else {}),
        )

    def summary(self, state: State, start_ns: int) -> Summary:
        """What the run has come to, which began at ``start_ns``."""
        info, stats = self.engine, self.stats
        return Summary(
            source=self.capture.source.info.address,
            captured=stats.ledger.captured,
            outcomes=stats.ledger.outcomes,
            fps=stats.rate.overall(),
            latency_ms=stats.latency.percentiles(),
            engine=str(info or ""),
            model=info.model if info else "",
            scale=self.capture.scale,
            state=state,
            seconds=stats.monitor.span_s,
            outputs=tuple(worker.report for worker in self.sinks.values() if worker.report),
            notes=tuple(self.capture.notes.first),
            sinks={
                name: {"written": worker.written, "skipped": worker.skipped}
                for name, worker in self.sinks.items()
            },
            fidelity=stats.fidelities.summary(),
            damaged=stats.damaged,
            outages=stats.outages.summary(start_ns),
            outage_total=str(outages) if (outages := stats.outages.total).count else "",
        )
