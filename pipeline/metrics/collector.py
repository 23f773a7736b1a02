"""The figures of running streams as Prometheus reads them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from clesr.engines.common.packages import versions_of
from clesr.pipeline.metrics.cards import CardState, CardWatch
from clesr.pipeline.stats import BUCKETS_S, STAGES, RunStats
from clesr.pipeline.status import SinkState, State, Status, is_old

if TYPE_CHECKING:
    from prometheus_client.core import Metric

STREAM = ("stream",)
UNATTENDED_S = 5.0  # after which it is told that nobody looks after a stream
BUILT_OF = ("clesr", "av", "numpy", "torch", "openvino")


class Watched(Protocol):
    """A running stream of which figures are told: a Pipeline."""

    @property
    def stats(self) -> RunStats: ...

    @property
    def unattended_s(self) -> float: ...

    def status(self) -> Status: ...


class PipelineCollector:
    """What Prometheus asks: the figures of ``streams``, by their names, and of ``cards``, as they are now."""

    def __init__(self, streams: Mapping[str, Watched], cards: CardWatch | None = None) -> None:
        self._streams, self._cards = streams, cards or CardWatch()

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import HistogramMetricFamily

        families = _Families()
        latency = HistogramMetricFamily(
            "clesr_latency_seconds",
            "Time from the capture of a frame through each stage.",
            labels=("stream", "stage"),
        )
        for stream, pipeline in self._streams.items():
            families.add(stream, pipeline)
            for stage in STAGES:
                counts = list(accumulate(pipeline.stats.latency.buckets[stage]))
                bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
                buckets = list(zip(bounds, map(float, counts), strict=True))
                latency.add_metric((stream, stage), buckets, pipeline.stats.latency.seconds[stage])
        yield from families
        yield latency
        yield _build()
        yield from _card_families(self._cards.states())


class _Families:
    """Counters and gauges, made when they first have a value."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._made.values())

    def add(self, stream: str, pipeline: Watched) -> None:
        status, newest, outages = pipeline.status(), pipeline.stats.newest, pipeline.stats.outages.total
        for outcome, count in status.outcomes.items():
            words = "Captured frames by what became of them."
            self._count("frames", words, count, stream, outcome=str(outcome))
        for what, times in (("engine", status.engine_restarts), ("source", status.source_restarts)):
            words = f"How often the {what} was open again after it had failed."
            self._count(f"{what}_restarts", words, times, stream)
        for name, words, figure in (
            ("captured", "Captured frames.", status.captured),
            ("damaged", "Frames that build on damaged pictures.", status.damaged),
            ("outages", "How often the source was away.", outages.count),
            ("outage_seconds", "How long the source was away.", outages.seconds),
        ):
            self._count(name, words, figure, stream)
        for state in State:
            words, found = "1 for the state of the run.", float(status.state is state)
            self._gauge("state", words, found, stream, state=str(state))
        self._add_sinks(stream, status)
        age, minutes = status.age_ns, status.disk_minutes
        fidelity = "How well the newest image agrees with what was measured."
        alarm = "1 while there is something that the user must not overlook."
        until_full = "Time until the disk of the recording is full at the present rate."
        low = "1 while up-scaled images are not recorded because the disk is nearly full."
        for name, words, value in (
            ("frames_per_second", "Images a second, of late.", status.fps),
            ("age_seconds", "Time since the newest image was captured.", None if age is None else age / 1e9),
            ("fidelity_db", fidelity, None if newest is None else newest.fidelity),
            ("stalled", "1 while no frame comes.", status.stalled),
            ("recording", "1 while frames are recorded.", status.recording),
            ("alarm", alarm, bool(status.alarm)),
            ("recording_seconds", "How long it has been recording.", status.recording_s),
            ("recording_bytes", "Size of the session that is recorded.", status.recording_bytes),
            ("disk_free_bytes", "What is free on the disk of the recording.", status.disk_bytes),
            ("disk_seconds", until_full, None if minutes is None else 60 * minutes),
            ("disk_low", low, status.disk_low),
        ):
            if value is not None:
                self._gauge(name, words, float(value), stream)

    def _add_sinks(self, stream: str, status: Status) -> None:
        for name, sink in status.sinks.items():
            for state in SinkState:
                words, found = "1 for the state of the sink.", float(sink.state is state)
                self._gauge("sink_state", words, found, stream, sink=name, state=str(state))
            for what, words, count in (
                ("delivered", "Results that the sink was given.", sink.delivered),
                ("left_out", "Results that the sink had no room or no time for.", sink.left_out),
                ("errors", "How often the sink failed.", sink.errors),
            ):
                self._count(f"sink_{what}", words, count, stream, sink=name)

    def _count(self, name: str, help: str, value: float, stream: str, **labels: str) -> None:
        from prometheus_client.core import CounterMetricFamily

        self._family(CounterMetricFamily, name, help, labels).add_metric((stream, *labels.values()), value)

    def _gauge(self, name: str, help: str, value: float, stream: str, **labels: str) -> None:
        from prometheus_client.core import GaugeMetricFamily

        self._family(GaugeMetricFamily, name, help, labels).add_metric((stream, *labels.values()), value)

    def _family(self, kind: Any, name: str, help: str, labels: Mapping[str, str]) -> Any:
        if name not in self._made:
            self._made[name] = kind(f"clesr_{name}", help, labels=(*STREAM, *labels))
        return self._made[name]


def _build() -> Metric:
    from prometheus_client.core import InfoMetricFamily

    versions = {name: version for name, version in versions_of(BUILT_OF).items() if version}
    return InfoMetricFamily(
        "clesr_build", "What runs here.", {"python": platform.python_version(), **versions}
    )


def _card_families(cards: Iterable[CardState]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    families = {
        "utilisation_ratio": "Share of the time in which the GPU computes, 0 to 1.",
        "memory_used_bytes": "Memory of the GPU in use, by anyone.",
        "memory_bytes": "Memory of the GPU.",
        "temperature_celsius": "Temperature of the GPU.",
    }
    cards = list(cards)
    for name, help in families.items() if cards else ():
        family = GaugeMetricFamily(f"clesr_gpu_{name}", help, labels=("gpu", "name"))
        for card in cards:
            value = getattr(card, name)
            if value is not None:
                family.add_metric((str(card.index), card.name), value)
        yield family


Troubles = dict[str, dict[str, str]]
"""By stream, which of its parts do not work, and why."""


def unwell(streams: Mapping[str, Watched]) -> Troubles:
    """The streams that do not do their work: a part does not answer, or has failed."""
    return _of_streams(streams, _failing)


def unready(streams: Mapping[str, Watched]) -> Troubles:
    """The streams whose image nobody should rely on now, or that have an alarm."""
    return _of_streams(streams, _unreliable)


def _of_streams(streams: Mapping[str, Watched], troubles: Callable[[Status], Mapping[str, str]]) -> Troubles:
    found: Troubles = {}
    for stream, pipeline in streams.items():
        status, alone_s = pipeline.status(), pipeline.unattended_s
        parts = dict(troubles(status))
        if alone_s > UNATTENDED_S and status.state in (State.RUNNING, State.DEGRADED, State.DRAINING):
            parts.setdefault("run", f"the main thread has not come round to it for {alone_s:.0f} s")
        if parts:
            found[stream] = parts
    return found


def _failing(status: Status) -> Mapping[str, str]:
    failed = status.state in (State.FAILED, State.DEGRADED)
    return status.troubles or ({"run": status.message or f"the run is {status.state}"} if failed else {})


def _unreliable(status: Status) -> Mapping[str, str]:
    found = dict(_failing(status))
    if status.state is not State.RUNNING:
        found.setdefault("run", f"the run is {status.state}")
    elif status.age_ns is None:
        found["image"] = "there is no image yet"
    elif is_old(status):
        found["image"] = "no frame comes" if status.stalled else "the newest image is old"
    if status.alarm:
        found["alarm"] = status.alarm
    return found
