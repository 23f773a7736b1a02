"""The choice among plans: the fastest that runs, bounded, kept on disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from triton.runtime.errors import OutOfResources

from clesr.engines.backends.cuda.kernels import densenet
from clesr.engines.backends.cuda.kernels import tuner as module
from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.backends.cuda.kernels.plan import TRUNK, Plan, launch, usual, worth_measuring
from clesr.engines.backends.cuda.kernels.tuner import Tuner, card_tuner
from clesr.engines.cache import pack, unpack
from clesr.engines.models.registry import build_model

PLANS = [Plan(block_m=size) for size in (32, 64, 128)]


class Card:
    """Takes ``block_m`` milliseconds for a plan, or lacks what it needs."""

    def __init__(self, lacks: tuple[int, ...] = ()) -> None:
        self.lacks, self.ran, self.now = lacks, list[int](), Plan()

    def run(self, plan: Plan) -> None:
        if plan.block_m in self.lacks:
            raise OutOfResources(300, 200, "shared memory")
        self.ran.append(plan.block_m)
        self.now = plan

    def measure(self, run: Callable[[], None]) -> float:
        run()
        return self.now.block_m / 1e3

    def tuner(self, folder: Path | None = None, seconds: float = 60) -> Tuner:
        return Tuner("a card", (9, 0), folder, self.measure, seconds)


def test_the_fastest_that_runs_is_taken_once() -> None:
    card = Card(lacks=(32,))
    tuner = card.tuner()
    choice = tuner.choose("k", PLANS, card.run)
    assert (choice.plan.block_m, choice.tried) == (64, 2)
    assert choice.microseconds == pytest.approx(64e3)
    measured = len(card.ran)
    assert tuner.choose("k", PLANS, card.run) is choice
    assert len(card.ran) == measured


def test_without_time_or_luck_the_last_plan_holds(tmp_path: Path) -> None:
    assert Card().tuner(tmp_path, seconds=-1).choose("k", PLANS, Card().run).plan == PLANS[-1]
    card = Card(lacks=(32, 64, 128))
    assert card.tuner(tmp_path).choose("k", PLANS, card.run).plan == PLANS[-1]
    assert not list(tmp_path.iterdir())


def test_the_bound_holds_over_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(module, "perf_counter", lambda: float(next(ticks)))
    card = Card()
    tuner = card.tuner(seconds=4)
    for key in "abcdef":
        tuner.choose(key, PLANS, card.run)
    assert len(card.ran) < 2 * 4 + 2


def test_choices_are_kept_on_disk_for_the_card(tmp_path: Path) -> None:
    card = Card()
    found = card.tuner(tmp_path).choose("up-128/256", PLANS, card.run)
    again = Card()
    assert again.tuner(tmp_path).choose("up-128/256", PLANS, again.run) == found
    assert again.ran == []
    other = Tuner("another card", (9, 0), tmp_path, again.measure)
    other.choose("up-128/256", PLANS, again.run)
    assert again.ran


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"plan": {"shape": 3}, "microseconds": 1, "tried": 1}'])
def test_a_damaged_or_foreign_file_is_measured_anew(content: str, tmp_path: Path) -> None:
    card = Card()
    card.tuner(tmp_path).choose("k", PLANS, card.run)
    (file,) = tmp_path.iterdir()
    key, _ = unpack(file.read_bytes())
    for damaged in (content.encode(), pack(key, content.encode())):
        file.write_bytes(damaged)
        again = Card()
        assert again.tuner(tmp_path).choose("k", PLANS, again.run).plan == PLANS[0]
        assert again.ran
        assert json.loads(unpack(file.read_bytes())[1])["plan"]["block_m"] == 32


def test_a_plan_that_is_no_candidate_any_more_is_not_taken(tmp_path: Path) -> None:
    card = Card()
    card.tuner(tmp_path).choose("k", PLANS, card.run)
    assert card.tuner(tmp_path).choose("k", PLANS[1:], card.run).plan == PLANS[1]


def test_a_folder_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    card = Card()
    assert card.tuner(tmp_path / "file" / "x").choose("k", PLANS, card.run).plan == PLANS[0]


def test_a_cpu_has_no_tuner() -> None:
    assert card_tuner("cpu") is None


def test_a_network_takes_what_was_chosen_and_says_so(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """With a tuner that runs nothing but likes the second plan of each kind."""
    tuner = Tuner("a card", (9, 0), None, lambda run: 1e-6)
    second = [Plan()]
    monkeypatch.setattr(Tuner, "_time", lambda self, plan, run: 1e-6 if plan == second[0] else 1e-3)
    asked = []

    def choose(self: Tuner, key: str, plans: list[Plan], run: Callable[[Plan], None]) -> object:
        asked.append(key)
        second[0] = plans[min(1, len(plans) - 1)]
        return self._measured(key, plans, run)

    monkeypatch.setattr(Tuner, "choose", choose)
    monkeypatch.setattr(densenet, "CHECKS", 1)
    kernels = DenseNetKernels(
        build_model("densenet", 4, {"blocks": 1}), (8, 8), torch.uint8, device, tuner=tuner
    )
    kinds = [key.split("-")[0] for key in asked]
    assert sorted(set(kinds)) == ["ahead", "early", "narrow", "project", "trunk", "up", "wide"]
    assert kinds.count("narrow") == 2  # 128 channels in, and up to 48
    lines = kernels.report()
    assert lines[-1] == f"dense blocks in one launch: {TRUNK[1]}"
    assert any(
        str(worth_measuring("up", (9, 0))[1]) in line and line.startswith("up-fp16-128-128-8x8")
        for line in lines
    )
    assert usual("up") not in kernels._plans.values()


def test_what_is_to_be_measured_is_compiled_first_and_nothing_is_started() -> None:
    """A kernel that does not compile is left to the measurement."""
    done = list[str]()

    class Kernel:
        def warmup(self, *arguments: object, grid: tuple[int, ...], **_options: object) -> None:
            done.append(f"compiled {arguments[0]} for {grid}")

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *arguments, **_options: done.append(f"started {arguments[0]}")

    def broken() -> None:
        raise OutOfResources(300, 200, "shared memory")

    tuner = Card().tuner()
    tuner.compile([broken, lambda: launch(Kernel(), 3, "one"), lambda: launch(Kernel(), 4, "two")])
    assert sorted(done) == ["compiled one for (3,)", "compiled two for (4,)"]
    launch(Kernel(), 3, "one")
    assert done[-1] == "started one"


def test_compiling_ends_in_time() -> None:
    started, end = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        end.wait(20)

    tuner = Card().tuner(seconds=-1)
    threading.Timer(0.2, end.set).start()
    left_out = list[int]()
    tuner.compile([slow] * 99 + [lambda: left_out.append(1)])
    assert started.is_set()
    assert not left_out
    assert tuner.spent > 0


def test_close_plans_are_measured_again() -> None:
    """The first one on a card that has yet to raise its clocks."""
    took = iter([2.0, 1.9, 9.0, 1.0, 1.9])
    tuner = Tuner("a card", (9, 0), None, lambda run: next(took))
    choice = tuner.choose("k", PLANS, lambda plan: None)
    assert (choice.plan, choice.microseconds, choice.tried) == (PLANS[0], 1e6, 3)


def test_a_launch_that_is_refused_in_a_capture_passes_a_plan_over() -> None:
    """The end of the capture raises another error then. One that has nothing to do with the plan is raised."""

    def measure(run: Callable[[], None]) -> float:
        if card.now == PLANS[0]:
            try:
                raise RuntimeError("Triton Error [CUDA]: too many blocks in cooperative launch")
            finally:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        if card.now == PLANS[1]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return card.measure(run)

    card = Card()
    tuner = Tuner("a card", (9, 0), None, measure)
    assert tuner.choose("k", [PLANS[0], PLANS[2]], card.run).plan == PLANS[2]
    with pytest.raises(RuntimeError, match="illegal memory access"):
        tuner.choose("other", PLANS, card.run)
