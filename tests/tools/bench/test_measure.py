"""What is measured of engines that take exactly so long, and what is not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_models import random_image
from timed_engines import MODEL, SHAPE, Bench

from clesr.engines.common.errors import EngineError
from clesr.engines.reference import reference_image
from clesr.tools.bench.measure import measure_case, quality, reference

PEAKS = {"cuda": {"fp16": 100.0}, "cpu": {"fp32": 50.0, "bf16": 200.0}}


def measured(fake: Bench, *candidates: Any) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    return measure_case(fake.case, candidates, fake.pair, peaks=PEAKS, plan=fake.plan)


def test_rates_and_latency(fake: Bench) -> None:
    (row,), out = measured(fake, fake.candidate("quick", host=0.002, device=0.008))
    assert out == []
    assert row["frames_s_one"] == pytest.approx(100)
    assert row["frames_s"] == pytest.approx(125)
    assert row["depth_gain"] == pytest.approx(1.25)
    assert (
        row["latency_ms"]["p50"] == row["latency_ms"]["p95"] == row["latency_ms"]["max"] == pytest.approx(10)
    )
    assert row["latency_ms"]["frames"] == pytest.approx(100, abs=3)
    assert row["streams_30"] == 4
    assert row["gflop_s"] == pytest.approx(row["gflop"] * 125, rel=0.001)
    assert row["of_peak"] == pytest.approx(row["gflop"] * 125 / 100, rel=0.01)
    assert row["parity"] == {"mean": 0.0, "max": 0}
    assert row["psnr_db"]["difference"] == 0
    assert (row["label"], row["lr"], row["scale"], row["device_ms"]) == ("quick fp16", list(SHAPE), 2, None)
    assert fake.made["quick"].closed == 1


def test_engines_take_turns_and_are_compared_within_the_run(fake: Bench) -> None:
    rows, _ = measured(
        fake, fake.candidate("quick", device=0.01), fake.candidate("slow", device=0.04, kind="cpu")
    )
    assert [row["label"] for row in rows] == ["quick fp16", "slow fp16 cpu"]
    assert rows[0]["over"] == {"slow fp16 cpu": pytest.approx(4)}
    assert rows[1]["over"] == {"quick fp16": pytest.approx(0.25)}
    assert len(rows[0]["frames_s_turns"]) == 3


def test_what_is_found_is_told_at_once(fake: Bench) -> None:
    lines: list[str] = []
    quick = fake.candidate("quick", host=0.002, device=0.008)
    measure_case(fake.case, [quick], fake.pair, peaks=PEAKS, plan=fake.plan, told=lines.append)
    assert len(lines) == 1 + fake.plan.repeats
    assert lines[0] == "quick fp16: opened in 0.0 s; 0.000 levels from FP32, 0 at most"
    assert lines[1] == "quick fp16, turn 1: 125 frames/s, ms p50 10.000"


def test_a_frame_longer_than_the_turn_is_measured_nevertheless(fake: Bench) -> None:
    (row,), _ = measured(fake, fake.candidate("slow", device=7.0))
    assert row["frames_s"] == pytest.approx(1 / 7, abs=0.001)
    assert row["latency_ms"]["frames"] == 3
    assert row["streams_30"] == 0


def test_an_engine_that_fails_parity_is_named_and_not_measured(fake: Bench) -> None:
    rows, out = measured(fake, fake.candidate("wrong", off=9), fake.candidate("right"))
    assert [row["engine"] for row in rows] == ["right"]
    (line,) = out
    assert (line["engine"], line["what"]) == ("wrong", "refused")
    assert "levels from the FP32 reference on average and 9 at most; 1 and 4 are allowed" in line["reason"]
    assert fake.made["wrong"].closed == 1


def test_an_engine_that_breaks_on_the_way_gives_no_figures(fake: Bench) -> None:
    rows, out = measured(fake, fake.candidate("breaks", fails=range(60, 10_000)), fake.candidate("right"))
    assert [row["engine"] for row in rows] == ["right"]
    assert rows[0]["over"] == {}
    assert [(line["what"], line["reason"]) for line in out] == [("failed", "told to fail")]
    assert fake.made["breaks"].closed == fake.made["right"].closed == 1


def test_an_engine_that_does_not_start_says_why(fake: Bench) -> None:
    def fail(*_arguments: object) -> Any:
        raise EngineError("out of memory")

    rows, out = measured(fake, fake.candidate("large", open=fail), fake.candidate("right"))
    assert [row["engine"] for row in rows] == ["right"]
    assert [(line["label"], line["what"], line["reason"]) for line in out] == [
        ("large fp16", "unavailable", "out of memory")
    ]


def test_quality_is_against_the_reference_and_the_truth() -> None:
    truth = np.full((8, 8), 100, np.uint8)
    truth[0, 0] = 90
    sr, hr = truth + 1, truth + 2
    found = quality(sr, truth, hr)
    assert found["parity"] == {"mean": 1.0, "max": 1}
    assert found["psnr_db"]["engine"] == pytest.approx(48.1308)
    assert found["psnr_db"]["difference"] == pytest.approx(6.0206)
    with pytest.raises(EngineError, match="constant"):
        quality(np.full_like(truth, 100), truth, hr)
    with pytest.raises(EngineError, match=r"2\.00 levels from"):
        quality(truth + 2, truth, hr)


@pytest.mark.usefixtures("fake")
def test_the_reference_is_torch_in_fp32() -> None:
    lr = random_image(SHAPE).astype(np.uint8)
    difference = reference(MODEL, lr).astype(int) - reference_image(MODEL.module, lr)
    assert np.abs(difference).max() <= 1
