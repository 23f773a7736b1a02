"""Blocks of the documents, a function each: how fast it is, and what parts of it cost."""

from __future__ import annotations

import itertools
from typing import Any

from archive import estimate

from blocks.results import load, table, where
from clesr.tools.bench.report import by_case, figure, signed


def engines() -> str:
    """OpenVINO against PyTorch."""
    data = load("engines")
    rows = [
        [
            f"`{row['model']}` x{row['scale']}",
            f"{row['lr'][0]}x{row['lr'][1]}",
            f"{row['torch_ms']:.1f}",
            f"{row['openvino_ms']:.1f}",
            f"{row['ratio']:.2f}",
        ]
        for row in data["rows"]
    ]
    return where(data) + table(["model", "input", "PyTorch FP32, ms", "OpenVINO, ms", "ratio"], rows)


def bench() -> str:
    """What `clesr bench` found on a processor."""
    data = load("bench-cpu")
    rows = []
    for case, found in by_case(data["rows"]).items():
        for row in found:
            latency = " / ".join(figure(row["latency_ms"][p]) or "–" for p in ("p50", "p95", "p99"))
            rows.append(
                [
                    case,
                    row["label"].removesuffix(" cpu"),
                    figure(row["frames_s"]),
                    f"{max(1.0, *row['over'].values()):.2f}",
                    str(row["streams_30"]),
                    latency,
                    f"{100 * row['of_peak']:.0f} %",
                    f"{row['parity']['mean']:.3f}, {row['parity']['max']}",
                    signed(row["psnr_db"]["difference"]),
                ]
            )
    head = [
        "case",
        "engine",
        "frames/s",
        "times the slowest",
        "streams at 30",
        "latency p50 / p95 / p99, ms",
        "of the processor's peak",
        "levels from FP32: mean, most",
        "PSNR, dB",
    ]
    return where(data) + table(head, rows)


def pipeline() -> str:
    """Throughput and latency of the whole path."""
    return _whole_path("pipeline")


def pipeline_avx2() -> str:
    """The same on a processor without 16-bit arithmetic."""
    return _whole_path("pipeline-avx2")


def pipeline_amx() -> str:
    """The same on a processor with matrix units."""
    return _whole_path("pipeline-amx")


def _whole_path(name: str) -> str:
    data = load(name)
    rows = []
    for row in data["rows"]:
        live = [_live(row[name]) for name in ("live_25", "live_25_temporal") if name in row]
        rows.append(
            [
                f"{row['size']}x{row['size']}",
                f"{row['engine_fps']:.1f}",
                f"{row['path_fps']:.1f}",
                f"{100 * row['path_of_engine']:.0f} %",
                *itertools.chain(*live),
            ]
        )
    head = [
        "input",
        "engine alone, frames/s",
        "whole path",
        "of the engine",
        *("live at 25: frames/s", "latency p50 / p99, ms", "stale frames in 10 s"),
        *("with earlier frames: frames/s", "latency p50 / p99, ms", "stale frames in 10 s"),
    ][: len(rows[0])]
    return where(data) + table(head, rows)


def cores() -> str:
    """What removing fibre cores costs."""
    data = load("cores")
    head = ["frames", "cores", "removed, 8 bit", "16 bit", "by PyFibreBundle", "whole path without", "with"]
    rows = [
        [
            f"{row['size']}x{row['size']}",
            f"{row['cores']:,}",
            *(f"{row[name]:.1f}" for name in ("remove_8_ms", "remove_16_ms", "pyfibrebundle_ms")),
            *(f"{row[name]:.0f}" if name in row else "–" for name in ("path_ms", "path_cores_ms")),
        ]
        for row in data["rows"]
    ]
    return where(data) + table(head, rows)


def _live(figures: dict[str, Any]) -> list[str]:
    total = figures["latency_ms"]["total"]
    stale = figures["outcomes"].get("stale", 0)
    return [f"{figures['fps']:.1f}", f"{total['p50']:.0f} / {total['p99']:.0f}", str(stale)]


def streams() -> str:
    """Several streams through one engine against an engine each."""
    data = load("streams")
    rows = [
        [
            str(row["streams"]),
            f"{row['one']['fps'] / row['several']['fps']:.2f}",
            f"{row['one']['min_of_max']:.2f}",
            f"{row['one']['p50_ms']:.0f} / {row['several']['p50_ms']:.0f}",
            f"{row['one']['p99_ms']:.0f} / {row['several']['p99_ms']:.0f}",
        ]
        for row in data["rows"]
    ]
    head = [
        "streams",
        "frames/s of one engine over several",
        "smallest share over largest",
        "p50, ms, one / several",
        "p99",
    ]
    beside = data["beside_endless"]["one"]["slow_upscaled"]
    return (
        f"Measured on {data['machine']['cpu']}, {data['machine']['cores']} cores, with other work on them (load "
        f"{data['machine']['load']:.0f}).\n\n{table(head, rows)}\n\n"
        f"Beside a stream that always has a frame, one of 5 frames/s got {100 * beside:.0f} % of its frames up-scaled."
    )


def isolation() -> str:
    """What an engine in a process of its own costs, and how soon it is back."""
    data = load("isolation")
    cost, killed = data["cost_ms"], data["killed"]
    size = data["size"]
    head = [f"`fast` x{data['scale']}, {size}x{size}: ms a frame", "p50", "p95", "p99"]
    rows = [
        [name, *(f"{cost[key][share]:.1f}" for share in ("p50", "p95", "p99"))]
        for name, key in (("in the same process", "plain"), ("in its own", "isolated"))
    ]
    back = killed["back_s"]
    said = (
        f"Killed {killed['kills']} times while {killed['captured']:,} frames came, it was back after "
        f"{back['median']:.1f} s in the median, {back['most']:.1f} s at most. {killed['raw']:,} raw frames were "
        "recorded."
    )
    return f"{where(data['environment'])}{table(head, rows)}\n\n{said}"


def views() -> str:
    """What a window and a page cost the live path."""
    return _views("")


def views_avx2() -> str:
    """The same on a processor without 16-bit arithmetic."""
    return _views("-avx2")


def _views(machine: str) -> str:
    window, page = load(f"display{machine}"), load(f"browser{machine}")
    rows = [
        [
            f"window, {shown['source']} frames",
            f"{shown['null_fps']:.1f}",
            f"{shown['window_fps']:.1f}",
            f"{100 * shown['window_of_null']:.0f} %",
        ]
        for shown in window["rows"]
    ]
    rows.append(
        [
            "page, recorded frames",
            f"{page['cost']['fps_without']:.1f}",
            f"{page['cost']['fps_with']:.1f}",
            f"{100 * page['cost']['with_of_without']:.0f} %",
        ]
    )
    live = window["rows"][-1]
    pictures = (
        f"Of the live source of {live['source_fps']:.0f} frames/s the window showed "
        f"{live['pictures_fps']:.1f} pictures a second."
    )
    seen, halves = page["latency"], [page["latency"][f"{half}_half_p95_ms"] for half in ("first", "second")]
    said = (
        f"From the capture of a frame to its image on the page, at {seen['fps']:.0f} frames/s over "
        f"{seen['seconds']:.0f} s: {seen['ms']['p50']:.0f} ms in the median, at most {seen['ms']['p95']:.0f} ms for 95 "
        f"of 100 ({halves[0]:.0f} ms in the first half of the run, {halves[1]:.0f} ms in the second)."
    )
    return (
        f"{where(window)}{table(['view', 'frames/s without', 'with', 'of that'], rows)}\n\n{pictures} {said}"
    )


def archive() -> str:
    """What a large archive costs, and what sharing the work costs and gains."""
    data = load("archive")
    found = estimate(data["stages"], data["assumed"])
    rows = [
        [
            row["who"],
            f"{row['hours']:,.0f}",
            f"{row['hours'] / 24:,.1f}",
            f"{row['fps']:,.0f}",
            f"{row['gb_s']:.1f}",
            row["limit"],
            ", ".join(f"{name} {rate:,.0f}" for name, rate in row["rates"].items()),
        ]
        for row in found["rows"]
    ]
    head = [
        "who",
        "hours",
        "days",
        "frames/s",
        "storage traffic, GB/s",
        "limited by",
        "frames/s that each allows",
    ]
    return "\n\n".join([_archive_costs(data, found), table(head, rows), _archive_sharing(data)])


def _archive_costs(data: dict[str, Any], found: dict[str, Any]) -> str:
    stages, assumed, one = data["stages"], data["assumed"], found["rows"][0]["rates"]
    lr, sr = ("x".join(map(str, reversed(stages[kind]))) for kind in ("lr", "sr"))
    costs = ", ".join(f"{name} {ms:.1f}" for name, ms in found["cpu_ms_a_frame"].items())
    raw, out = (stages[kind]["bytes_a_pixel"] for kind in ("raw_ffv1_decode", "sr_ffv1_encode"))
    return (
        f"Measured on {data['machine']['cpu']} with frames of a real video, {lr} to {sr}, in milliseconds of one core "
        f"a frame: {costs}. Lossless FFV1 takes {raw:.3f} bytes a pixel in and {out:.3f} out. "
        f"{assumed['hours']:,.0f} hours at {assumed['fps']:g} frames/s are {found['frames'] / 1e9:.2f}e9 frames: "
        f"{found['in_tb']:,.0f} TB in, {found['out_tb']:,.0f} TB out, {found['moved_mb_a_frame']:.2f} MB moved each. "
        f"Storage, not the engines, is the limit from {one['storage'] / one['engine']:.0f} GPUs on."
    )


def _archive_sharing(data: dict[str, Any]) -> str:
    runs = data["runs"]
    speed = runs["speed_of_plain"]
    return (
        f"Ray on one machine of {data['machine']['cores']} cores against the plain run, one thread an engine, medians "
        f"of {len(runs['rows'])} turns (load {data['machine']['load']:.0f}): one worker does "
        f"{speed['one_worker']:.2f} of its frames/s, two {speed['two_workers']:.2f}; "
        f"the same bytes: {'yes' if runs['same_bytes'] else 'no'}."
    )
