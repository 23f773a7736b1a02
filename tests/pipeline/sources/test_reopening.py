"""A live source that breaks is opened again, and what that cost is told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from support import ManualClock, ScriptedSource, Step, make_frame

from clesr.engines.common.errors import EndOfSource, SourceError
from clesr.pipeline.chaos.faulty import FaultySource
from clesr.pipeline.chaos.plan import parse_plan
from clesr.pipeline.frame import Frame, Outage
from clesr.pipeline.source import restarts_of
from clesr.pipeline.sources.masked import Masked
from clesr.pipeline.sources.reopening import WAITS_S, Reopening


def reopening(*scripts: Iterable[Step] | Exception) -> tuple[Reopening, ManualClock, list[ScriptedSource]]:
    """A source that goes through ``scripts`` one after the other; an exception is what opening it raises."""
    clock, opened = ManualClock(), []
    left = list(scripts)

    def next_source() -> ScriptedSource:
        script = left.pop(0)
        if isinstance(script, Exception):
            raise script
        opened.append(ScriptedSource(script, live=True, clock=clock))
        return opened[-1]

    return Reopening(next_source(), next_source, clock), clock, opened


@pytest.mark.parametrize("error", [RuntimeError("driver"), OSError(5, "Input/output error"), KeyError("x")])
def test_whatever_a_driver_raises_it_is_opened_again_and_numbers_go_on(error: Exception) -> None:
    source, _, opened = reopening([make_frame(7), error], [make_frame(0), make_frame(2)])
    items = [source.read(0.1) for _ in range(5)]
    assert [type(item) for item in items] == [Frame, Outage, Outage, Frame, Frame]
    assert [item.over for item in items if isinstance(item, Outage)] == [False, True]
    assert not any(item.known for item in items if isinstance(item, Outage))
    assert [item.number for item in items if isinstance(item, Frame)] == [7, 8, 10]
    assert opened[0].closed
    assert source.restarts == 1


def test_one_that_cannot_be_opened_is_tried_again_after_growing_waits() -> None:
    failures = len(WAITS_S) + 2
    broken = [SourceError("not there yet")] * failures
    source, clock, _ = reopening([make_frame(0), RuntimeError("gone")], *broken, [make_frame(0)])
    begin = clock.now_ns()
    items: list[object] = []
    while sum(isinstance(item, Frame) for item in items) < 2:
        items.append(source.read(0.5))
    assert sum(isinstance(item, Outage) for item in items) == 2
    assert (clock.now_ns() - begin) / 1e9 == pytest.approx(sum(WAITS_S) + 3 * WAITS_S[-1], abs=1)


@pytest.mark.parametrize("error", [EndOfSource(), SourceError("wrong password"), MemoryError()])
def test_what_a_source_means_to_raise_goes_through(error: Exception) -> None:
    source, _, opened = reopening([make_frame(0), error])
    source.read(0.1)
    with pytest.raises(type(error)):
        source.read(0.1)
    assert len(opened) == 1


def test_it_is_not_opened_again_once_it_is_closed() -> None:
    source, _, opened = reopening([RuntimeError("gone")], [make_frame(0)])
    source.read(0.1)
    source.close()
    assert source.read(0.1) is None
    assert len(opened) == 1


def test_what_reopens_by_itself_is_counted_through_all_that_is_around_it() -> None:
    class Camera(ScriptedSource):
        restarts = 0

        def unplugged(self) -> None:
            self.restarts += 1

    plan = parse_plan("sink-slow@9999")

    def opened(last: Exception | None) -> FaultySource:
        camera = Camera((), live=True)
        camera._script = iter([make_frame(0), camera.unplugged, make_frame(1), last])
        return FaultySource(Masked(camera, ()), plan)

    source = Reopening(opened(RuntimeError("driver")), lambda: opened(None), ManualClock())
    counts = []
    for _ in range(6):
        source.read(0.1)
        counts.append(restarts_of(source))
    assert counts == [0, 1, 1, 2, 2, 3], "unplugged, broken and opened again, unplugged again"
    assert restarts_of(ScriptedSource(())) == 0
