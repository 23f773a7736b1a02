"""Engines side by side on one model and size, in turns, so that whatever else the machine does meets all alike."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EngineError
from clesr.engines.common.image import Pixels
from clesr.engines.engine import Engine
from clesr.engines.models.registry import count_operations
from clesr.engines.models.weights import Model
from clesr.engines.reference import reference_image
from clesr.engines.selftest import compare
from clesr.engines.view import field_of_view
from clesr.tools.bench.figures import latency, median_ratio, ratios, significant, streams
from clesr.tools.bench.peak import peak_for
from clesr.tools.bench.power import ReadWatts, device_mb, mean_watts, resident_mb, watching
from clesr.tools.bench.turns import by_device, in_flight, one_at_a_time, upscaled
from clesr.tools.evaluation.metrics import psnr

ImagePair = tuple[Pixels, Pixels]  # LR and HR

WARM_UP_S = 0.3  # of each engine before its first turn: clocks rise, caches fill


@dataclass(frozen=True, slots=True)
class Case:
    """One model for LR images of ``shape`` (H, W)."""

    model: Model
    shape: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.model.name} x{self.model.scale} {self.shape[1]}x{self.shape[0]}"

    @property
    def gflop(self) -> float:
        """Of one frame."""
        return count_operations(self.model.module, 8, 8) * self.shape[0] * self.shape[1] / 64e9


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """How long is measured: about ``seconds`` for each way (one at a time, in flight, by the device), in ``repeats``
    turns; ``threads`` of the processor, None: all."""

    seconds: float = 1.0
    repeats: int = 3
    threads: int | None = None
    clock: Clock = SYSTEM
    watts: ReadWatts | None = None


@dataclass(slots=True)
class Subject:
    """An engine under measurement, and what was found of it."""

    candidate: EngineCandidate
    engine: Engine
    device_mb: float | None = None
    host_mb: float | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    single: list[float] = field(default_factory=list)  # seconds a frame
    single_rates: list[float] = field(default_factory=list)  # of each turn
    rates: list[float] = field(default_factory=list)
    device: dict[str, list[float]] = field(default_factory=dict)  # of each part of a frame
    readings: list[float] = field(default_factory=list)


def label(candidate: EngineCandidate) -> str:
    """What an engine is called in tables: name and precision, and the device where it is no NVIDIA GPU."""
    device = "" if candidate.kind == "cuda" else f" {candidate.kind}"
    return f"{candidate.name} {candidate.precision}{device}"


def measure_case(
    case: Case,
    candidates: Sequence[EngineCandidate],
    pair: ImagePair,
    *,
    peaks: dict[str, dict[str, float]],
    plan: BenchPlan,
    advance: Callable[[str], None] = lambda _what: None,
    told: Callable[[str], None] = lambda _line: None,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """A row for each engine that passes parity, and for each other its name and why it is not among them.

    ``peaks`` are GFLOP/s by kind of device and precision; ``advance`` is called as each engine opens and after each of
    its turns; ``told`` is given what was found as soon as it is known: of each opening, of each turn. The engines are
    closed in the end.
    """
    out: list[dict[str, str]] = []
    subjects = _opened(case, candidates, pair, plan, out, advance, told)
    try:
        for turn in range(plan.repeats):
            for subject in list(subjects):
                try:
                    _take_turn(subject, pair[0], plan, first=turn == 0)
                except EngineError as error:
                    subjects.remove(subject)
                    subject.engine.close()
                    out.append(_left_out(case, subject.candidate, "failed", str(error)))
                else:
                    told(_turn_said(subject, turn + 1))
                advance(f"{case}, {label(subject.candidate)}")
    finally:
        for subject in subjects:
            subject.engine.close()
    over = ratios({label(s.candidate): s.rates for s in subjects})
    rows = [_row(case, s, peaks.get(s.candidate.kind, {})) for s in subjects]
    return [row | {"over": over[row["label"]]} for row in rows], out


def _opened(
    case: Case,
    candidates: Sequence[EngineCandidate],
    pair: ImagePair,
    plan: BenchPlan,
    out: list[dict[str, str]],
    advance: Callable[[str], None],
    told: Callable[[str], None],
) -> list[Subject]:
    """Those that start and whose image is the reference's to within the limits."""
    truth: Pixels | None = None
    subjects = []
    for candidate in candidates:
        waits = candidate.wait(case.model, case.shape)
        advance(f"{case}, opening {label(candidate)}{waits and ': ' + waits}")
        before, subject, begin = (device_mb(), resident_mb()), None, plan.clock.now_ns()
        try:
            subject = Subject(candidate, candidate.open(case.model, case.shape, plan.threads))
            sr = upscaled(subject.engine, pair[0])
            seconds = (plan.clock.now_ns() - begin) / 1e9
            subject.device_mb, subject.host_mb = (
                _grown(before[0], device_mb()),
                _grown(before[1], resident_mb()),
            )
            truth = reference(case.model, pair[0]) if truth is None else truth
            subject.quality = quality(sr, truth, pair[1])
        except EngineError as error:
            out.append(_left_out(case, candidate, "refused" if subject else "unavailable", str(error)))
            if subject is not None:
                subject.engine.close()
        else:
            subjects.append(subject)
            parity = "{mean:.3f} levels from FP32, {max} at most".format(**subject.quality["parity"])
            told(f"{label(candidate)}: opened in {seconds:.1f} s; {parity}")
    return subjects


def reference(model: Model, lr: Pixels) -> Pixels:
    """What PyTorch makes of ``lr`` in FP32: on a GPU, or on the CPU where that has too little memory."""
    if torch.cuda.is_available():
        try:
            network = copy.deepcopy(model.module).to("cuda")
            return reference_image(network, lr, device="cuda").astype(np.uint8, copy=False)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    return reference_image(model.module, lr).astype(np.uint8, copy=False)


def quality(sr: Pixels, truth: Pixels, hr: Pixels) -> dict[str, Any]:
    """How far ``sr`` lies from the FP32 reference ``truth``, and PSNR of both against ``hr`` inside the field of view.

    Raises EngineError where ``sr`` is beyond the limits of parity.
    """
    compare(sr, truth)
    difference = np.abs(sr.astype(np.int16) - truth)
    mask = field_of_view(hr)
    ours, theirs = psnr(hr, sr, mask), psnr(hr, truth, mask)
    return {
        "parity": {"mean": round(float(difference.mean()), 5), "max": int(difference.max())},
        "psnr_db": {
            "engine": round(ours, 4),
            "reference": round(theirs, 4),
            "difference": round(ours - theirs, 5) if ours != theirs else 0.0,
        },
    }


def _take_turn(subject: Subject, lr: Pixels, plan: BenchPlan, *, first: bool) -> None:
    engine, seconds = subject.engine, plan.seconds / plan.repeats
    if first:
        one_at_a_time(engine, lr, min(WARM_UP_S, seconds), plan.clock)
    spans = one_at_a_time(engine, lr, seconds, plan.clock)
    subject.single += spans
    subject.single_rates.append(len(spans) / max(sum(spans), 1e-9))
    with watching(plan.watts if subject.candidate.kind == "cuda" else None, subject.readings):
        subject.rates.append(in_flight(engine, lr, seconds, plan.clock))
    for name, found in by_device(engine, lr, seconds, plan.clock).items():
        subject.device.setdefault(name, []).extend(found)


def _turn_said(subject: Subject, turn: int) -> str:
    """What was found of ``subject`` up to its ``turn``."""
    device = subject.device.get("device")
    alone = f", device {1e3 * statistics.median(device):.3f}" if device else ""
    rate, milliseconds = subject.rates[-1], 1e3 * statistics.median(subject.single)
    return f"{label(subject.candidate)}, turn {turn}: {rate:.4g} frames/s, ms p50 {milliseconds:.3f}{alone}"


def _row(case: Case, subject: Subject, peaks: dict[str, float]) -> dict[str, Any]:
    candidate, rate = subject.candidate, statistics.median(subject.rates)
    speed, peak = case.gflop * rate, peak_for(peaks, candidate.precision)
    return {
        "model": case.model.name,
        "scale": case.model.scale,
        "sha256": case.model.sha256,
        "lr": list(case.shape),
        "gflop": significant(case.gflop),
        "label": label(candidate),
        "engine": candidate.name,
        "kind": candidate.kind,
        "device": candidate.device,
        "precision": candidate.precision,
        "depth": subject.engine.depth,
        "frames_s": significant(rate),
        "frames_s_turns": [significant(r) for r in subject.rates],
        "frames_s_one": significant(statistics.median(subject.single_rates)),
        "depth_gain": round(median_ratio(subject.rates, subject.single_rates), 3),
        "latency_ms": latency(subject.single),
        "device_ms": latency(subject.device["device"]) if subject.device else None,
        "beside_device_ms": _beside(subject.device),
        "device_mb": subject.device_mb,
        "host_mb": subject.host_mb,
        "watts": mean_watts(subject.readings),
        "gflop_s": significant(speed),
        "of_peak": significant(speed / peak) if peak else None,
        "streams_30": streams(rate),
        **subject.quality,
    }


def _beside(device: dict[str, list[float]]) -> dict[str, float] | None:
    """The median milliseconds of all parts of a frame but the network itself; None where they were not measured."""
    beside = {
        name: round(1e3 * statistics.median(spans), 4) for name, spans in device.items() if name != "device"
    }
    return beside or None


def _left_out(case: Case, candidate: EngineCandidate, kind: str, reason: str) -> dict[str, str]:
    named = {"case": str(case), "label": label(candidate), "engine": candidate.name}
    return named | {"what": kind, "reason": reason}


def _grown(before: float | None, after: float | None) -> float | None:
    """By how many MB, with one place behind the point."""
    return None if before is None or after is None else round(max(0.0, after - before), 1)
