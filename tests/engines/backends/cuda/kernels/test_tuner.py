"""The choice between two forms: the first, or one that is clearly faster; measured in turns on a warm card."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
import torch
from triton.runtime.errors import OutOfResources

from clesr.engines.backends.cuda.kernels import tuner as module
from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.backends.cuda.kernels.plan import alternatives, launch
from clesr.engines.backends.cuda.kernels.tuner import ROUNDS, Tuner, card_tuner
from clesr.engines.models.registry import build_model


class Card:
    """Takes the microseconds that a form is named after, ten times as long in its first ``cold`` runs; cannot run what
    is in ``lacks``."""

    def __init__(self, lacks: dict[str, Exception] | None = None, cold: int = 0) -> None:
        self.lacks, self.cold = lacks or {}, cold
        self.ran: list[str] = []
        self.now = ""

    def run(self, form: str) -> None:
        if form in self.lacks:
            raise self.lacks[form]
        self.now = form

    def timed(self, run: Callable[[], None]) -> Callable[[], float]:
        run()
        form = self.now

        def seconds() -> float:
            self.ran.append(form)
            cold = len(self.ran) <= self.cold
            return float(form) * 1e-6 * (10 if cold else 1)

        return seconds

    def tuner(self, warm_up: float = 0.0) -> Tuner:
        return Tuner((9, 0), self.timed, warm_up)


@pytest.mark.parametrize(
    ("forms", "taken"),
    [(("30", "20"), "20"), (("20", "30"), "20"), (("20", "19.9"), "20"), (("20", "19"), "19")],
)
def test_a_second_form_must_be_clearly_faster(forms: tuple[str, str], taken: str) -> None:
    card = Card()
    tuner = card.tuner()
    assert tuner.choose("k", forms, card.run) == taken
    assert (
        tuner.said["k"]
        == f"k: {taken} ({forms[0]} {float(forms[0]):.1f} us, {forms[1]} {float(forms[1]):.1f} us)"
    )


def test_forms_have_their_turns_and_are_measured_once() -> None:
    card = Card()
    tuner = card.tuner()
    tuner.choose("k", ("30", "20"), card.run)
    assert card.ran == ["30", "20"] * ROUNDS
    tuner.choose("k", ("30", "20"), card.run)
    assert len(card.ran) == 2 * ROUNDS


def test_an_idle_card_is_warmed_before_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still but for 10 ms a look: the forms run in turns until 50 ms have passed."""
    ticks = iter(range(1000))
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks) / 100)
    card = Card(cold=8)
    tuner = card.tuner(module.WARM_UP)
    tuner.choose("k", ("30", "20"), card.run)
    assert module.WARM_UP == 0.05
    assert card.ran[:8] == ["30", "20"] * 4
    assert len(card.ran) == 8 + 2 * ROUNDS
    assert tuner.said["k"] == "k: 20 (30 30.0 us, 20 20.0 us)", "what was cold does not count"


CANNOT = [
    OutOfResources(300, 200, "shared memory"),
    RuntimeError("CUDA error: operation failed due to a previous error during capture"),
    ValueError("no such layout"),
]


@pytest.mark.parametrize("error", CANNOT, ids=str)
def test_what_this_card_cannot_run_is_passed_over(error: Exception) -> None:
    card = Card(lacks={"10": error})
    assert card.tuner().choose("k", ("10", "30"), card.run) == "30"
    card = Card(lacks={"30": error, "10": RuntimeError("the device is lost")})
    with pytest.raises(type(error)):
        card.tuner().choose("k", ("30", "10"), card.run)


def test_an_early_start_whose_capture_fails_is_left_out(device: str) -> None:
    """The network opens without it, and says so."""

    def timed(run: Callable[[], None]) -> Callable[[], float]:
        if getattr(run, "args", ()) == (True,):
            raise RuntimeError(
                "CUDA error: operation would make the legacy stream depend on a capturing stream"
            )
        return lambda: 1e-6

    module = build_model("densenet", 4, {"blocks": 1})
    kernels = DenseNetKernels(module, (8, 8), torch.uint8, device, tuner=Tuner((9, 0), timed, 0.0))
    assert kernels.report()[-1] == "early start of kernels: no"
    assert not kernels.simplify()


def test_a_network_takes_what_was_chosen_and_says_so(device: str) -> None:
    """With a tuner that finds the second of each kind faster."""
    falling = (0.9**n for n in itertools.count())
    tuner = Tuner((9, 0), lambda _run: itertools.repeat(next(falling)).__next__, 0.0)
    kernels = DenseNetKernels(
        build_model("densenet", 4, {"blocks": 1}), (8, 8), torch.uint8, device, tuner=tuner
    )
    kinds = [key.split("-")[0] for key in tuner.taken]
    assert sorted(kinds) == ["ahead", "early", "narrow", "narrow", "project", "up", "wide"]
    for key, plan in kernels._plans.items():
        assert plan == alternatives(key.split("-")[0], (9, 0))[-1]
    lines = kernels.report()
    assert any(line.startswith(f"up-128-512-8x8: {alternatives('up', (9, 0))[1]} (") for line in lines)
    assert lines[-1] == "early start of kernels: yes"
    assert kernels.simplify()
    assert not kernels.simplify()
    assert kernels.report()[-1] == "early start of kernels: no"


def test_a_cpu_has_no_tuner() -> None:
    assert card_tuner("cpu") is None


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

    def one(name: str, programs: int) -> Callable[[], None]:
        return lambda: launch(Kernel(), programs, name, early=False)

    Card().tuner().compile([broken, one("one", 3), one("two", 4)])
    assert sorted(done) == ["compiled one for (3,)", "compiled two for (4,)"]
    one("one", 3)()
    assert done[-1] == "started one"


def test_kernels_are_compiled_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two waits for the other."""
    monkeypatch.setattr(module, "core_count", lambda: 2)
    both = threading.Barrier(2, timeout=60)
    met = list[int]()
    Card().tuner().compile([lambda: met.append(both.wait(60))] * 2)
    assert sorted(met) == [0, 1]
