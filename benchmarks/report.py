"""Puts measured figures into the documents, between marks, from committed JSON and the weights' descriptors.

python benchmarks/report.py [--check]
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
from archive import estimate

from clesr.engines.models.registry import count_operations, count_parameters
from clesr.engines.models.weights import load_model, shipped
from clesr.tools.bench.report import by_case, figure, signed
from clesr.tools.evaluation.evaluate import MethodSummary, from_json, summarise

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
import fault_matrix  # noqa: E402 - what the tests expect is what the table of faults says

RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (
    ROOT / "README.md",
    *(ROOT / "docs" / "internals").glob("*.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "engines" / "models" / "shipped" / "MODEL_CARD.md",
)


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def models() -> str:
    """The shipped models, from their descriptors."""
    rows = []
    for path in shipped().values():
        model = load_model(path)
        side = 1024 // model.scale
        metrics, training = model.descriptor.metrics, model.descriptor.training
        rows.append(
            [
                f"`{model.name}`",
                f"x{model.scale}",
                f"{count_parameters(model.module):,}",
                f"{count_operations(model.module.to('meta'), side, side) / 1e9:.1f}",
                f"{metrics['test_gain_db']:+.2f}",
                f"{training['steps']} steps, {training['minutes']:.0f} min",
                f"`{model.sha256[:12]}`",
            ]
        )
    head = [
        "model",
        "scale",
        "numbers",
        "GFLOP for 1024x1024",
        "test, dB over bicubic",
        "last stage",
        "identity",
    ]
    return table(head, rows)


def engines() -> str:
    """OpenVINO against PyTorch."""
    data = _load("engines")
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
    return _where(data) + table(["model", "input", "PyTorch FP32, ms", "OpenVINO, ms", "ratio"], rows)


def bench() -> str:
    """What `clesr bench` found on a processor."""
    data = _load("bench-cpu")
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
    return _where(data) + table(head, rows)


def pipeline() -> str:
    """Throughput and latency of the whole path."""
    data = _load("pipeline")
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
    return _where(data) + table(head, rows)


def cores() -> str:
    """What removing fibre cores costs."""
    data = _load("cores")
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
    return _where(data) + table(head, rows)


def _live(figures: dict[str, Any]) -> list[str]:
    total = figures["latency_ms"]["total"]
    stale = figures["outcomes"].get("stale", 0)
    return [f"{figures['fps']:.1f}", f"{total['p50']:.0f} / {total['p99']:.0f}", str(stale)]


def streams() -> str:
    """Several streams through one engine against an engine each."""
    data = _load("streams")
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


def stills() -> str:
    """Every method on the CLE stills of the test set."""
    return _evaluated("test", "CLE stills of other patients")


def evaluation() -> str:
    """Every method on the test images and on those of another kind."""
    return f"{stills()}\n\n{_evaluated('cross', 'confocal microscopy of mouse gut')}"


def _evaluated(folder: str, title: str) -> str:
    lines = summarise(from_json(json.loads((RESULTS / folder / "rows.json").read_text())))
    native = [line for line in lines if line.size == "native"]
    scales = sorted({line.scale for line in native})
    rows = []
    for method in dict.fromkeys(line.method for line in native):
        found = {line.scale: line for line in native if line.method == method}
        rows.append([method, *(_quality(found.get(scale)) for scale in scales)])
    return table([f"{title} ({native[0].images})", *(f"x{scale}" for scale in scales)], rows)


def degradations() -> str:
    """What degradations do to the models, a table for each scale."""
    return "\n\n".join(_degraded(scale) for scale in (4, 2, 8))


def noisy_stills() -> str:
    """The same at x4 alone."""
    return _degraded(4)


def _degraded(scale: int) -> str:
    return _by_method(
        f"LR images, x{scale}",
        [row for row in _load("degradations/shipped")["rows"] if row["scale"] == scale],
        lambda row: f"`{row['degradation']}`",
        lambda row: _below_zero_bold(row["gain_db"]),
    )


def amplification() -> str:
    """How much of the noise of LR images is in each method's image, against the bicubic one."""
    rows = sorted(
        _load("degradations/shipped")["amplification"], key=lambda row: (4, 2, 8).index(row["scale"])
    )
    return _by_method(
        "noise, grey levels",
        rows,
        lambda row: f"x{row['scale']}: {row['noise']}",
        lambda row: f"{row['times_bicubic']:.2f}",
    )


def linear() -> str:
    """What `fast` gains beside the best linear filters for each image."""
    best = {(row["scale"], row["degradation"]): row["gain_db"] for row in _load("linear")["rows"]}
    found = {
        (row["scale"], row["degradation"]): row["gain_db"]
        for row in _load("degradations/shipped")["rows"]
        if row["method"] == "fast"
    }
    scales, names = sorted({scale for scale, _ in best}), list(dict.fromkeys(name for _, name in best))
    head = ["LR images", *(f"x{scale} {what}" for scale in scales for what in ("filters", "`fast`"))]
    return table(
        head,
        [
            [f"`{name}`", *(f"{side[scale, name]:+.2f}" for scale in scales for side in (best, found))]
            for name in names
        ],
    )


def _by_method(
    head: str,
    rows: list[dict[str, Any]],
    name: Callable[[dict[str, Any]], str],
    figure: Callable[[dict[str, Any]], str],
) -> str:
    """A line for each ``name``, a column for each method that has any."""
    found = {(name(row), row["method"]): figure(row) for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = dict.fromkeys(map(name, rows))
    return table([head, *methods], [[line, *(found.get((line, m), "") for m in methods)] for line in lines])


def temporal() -> str:
    """What earlier frames are worth, by simulated motion over stills."""
    rows = [
        [
            f"`{kind}`",
            f"{gain['single_over_bicubic_db']:+.2f}",
            f"{gain['added_from_eighth_db']:+.2f}",
            f"{gain['added_least_db']:+.2f}",
        ]
        for kind, gain in _load("temporal/gain")["gain"].items()
    ]
    return table(["LR frames", "single frame over bicubic", "added from the 8th frame on", "least"], rows)


def _below_zero_bold(gain: float) -> str:
    return f"**{gain:+.2f}**" if gain < 0 else f"{gain:+.2f}"


def _quality(line: MethodSummary | None) -> str:
    if line is None or line.gain is None:
        return ""
    return f"{line.psnr.value:.2f} ({line.gain.value:+.2f}) / {line.ssim.value:.3f}"


def memory() -> str:
    """The soak."""
    data = _load("memory")
    return (
        f"Over {data['captured']} frames resident memory went from {data['rss_mb_at_tenth']} MB (after a tenth) to "
        f"{data['rss_mb_at_end']} MB: {data['slope_bytes_a_frame']:.0f} bytes a frame."
    )


def _slope(one: dict[str, float]) -> list[float]:
    """What grows in an hour, and its interval, without a minus before nothing."""
    return [round(one[name], 1) + 0.0 for name in ("per_hour", "low", "high")]


def soak() -> str:
    """Hours of frames with faults."""
    data = _load("soak")
    names = {
        "memory_mb": "memory, MB",
        "latency_ms": "latency, ms",
        "handles": "handles",
        "threads": "threads",
    }
    rows = [
        [
            words,
            f"{data['slopes'][name]['median']:.0f}",
            *(f"{grows:+.1f}" for grows in _slope(data["slopes"][name])),
        ]
        for name, words in names.items()
    ]
    held = len(data["sessions"]) - len(data["broken"])
    said = (
        f"{data['hours']:g} hours at {data['fps']:g} frames/s, {data['size']}x{data['size']} pixels x{data['scale']}, "
        f"{sum(data['faults'].values())} faults: {data['captured']:,} frames, {held} of {len(data['sessions'])} "
        "sessions hold."
    )
    shown = table(["", "median", "more in an hour", "by 95 % at least", "at most"], rows)
    return f"{_where(data['environment'])}{said}\n\n{shown}"


def isolation() -> str:
    """What an engine in a process of its own costs, and how soon it is back."""
    data = _load("isolation")
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
    return f"{_where(data['environment'])}{table(head, rows)}\n\n{said}"


def views() -> str:
    """What a window and a page cost the live path."""
    window, page = _load("display"), _load("browser")
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
        f"{_where(window)}{table(['view', 'frames/s without', 'with', 'of that'], rows)}\n\n{pictures} {said}"
    )


def switching() -> str:
    """Switches of scale while all is recorded."""
    data = _load("switching")
    recorded, seen, memory = data["recorded"], data["pictures"], data["memory_mib"]
    half = len(memory) // 2
    return (
        f"{data['switches']} switches x2, x4, x8, x4 while {recorded['frames']} frames were recorded: "
        f"{recorded['complete']} of {recorded['sessions']} sessions are complete, {recorded['missing']} frames are "
        f"missing. Of {seen['seen']} pictures on the page {seen['black']} were black and {seen['wrong_size']} of a "
        f"wrong size. A switch took {data['ms']['p50'] / 1000:.1f} s in the median. Memory: "
        f"{median(memory[:half]):.0f} MiB in the first half, {median(memory[half:]):.0f} MiB in the second."
    )


def mosaic() -> str:
    """How far frames on maps lie from their true places, and what a frame costs."""
    data = _load("mosaic")
    measured = {f"simulator, {name}, x4": row for name, row in data["simulator"].items()}
    rows = [
        [name, str(row["frames"]), f"{row['rms_px']:.2f}", f"{row['most_px']:.2f}", f"{row['cpu_ms']:.0f}"]
        for name, row in (measured | {"still, x2": data["still"]}).items()
    ]
    head = ["scene", "frames", "error, SR pixels rms", "most", "processor time a frame, ms"]
    return _where(data["environment"]) + table(head, rows)


def mosaic_video() -> str:
    """The maps of the real video."""
    rows = [
        [
            str(index),
            f"{row['drawn']} of {row['of']}",
            "x".join(map(str, row["size"])),
            f"{row['agreement_p50']:.2f}",
            f"{row['mb']:.0f}",
        ]
        for index, row in enumerate(_load("mosaic")["colon"]["maps"], 1)
    ]
    return table(["map", "frames drawn", "pixels", "correlation with the map, median", "MB"], rows)


def mutants() -> str:
    """The planted faults: how many the tests notice, and the others with the reason why they stay."""
    data = _load("mutants")
    counts = [
        [f"`{m['module']}`", str(m["possible"]), str(m["tried"]), str(m["noticed"])] for m in data["modules"]
    ]
    total = [str(sum(m[what] for m in data["modules"])) for what in ("possible", "tried", "noticed")]
    left = [
        [
            f"`{m['module']}`, `{m['function'] or 'the module'}`",
            _code(m["line"]),
            _code(m["fault"]),
            m["reason"],
        ]
        for m in data["survivors"]
    ]
    return "\n\n".join(
        [
            table(["module", "possible", "tried", "noticed"], [*counts, ["all", *total]]),
            "Not noticed:",
            table(["where", "line", "fault", "why it stays"], left),
        ]
    )


def _code(line: str) -> str:
    return "`" + line.replace("|", "\\|") + "`"


def readings() -> str:
    """The readings of the paper's text, each after the same budget."""
    data = _load("readings")
    rows = [
        [
            f"`{row['skip']}`",
            f"`{row['base']}`",
            f"{row['parameters']:,}",
            f"{row['gflop_256_to_1024']:.0f}",
            f"{row['gain_db']:+.2f}",
            f"{row['minutes']:.0f}",
        ]
        for row in data["rows"]
    ]
    head = ["skip", "base", "numbers", "GFLOP, 256 to 1024", "held-out images, dB over bicubic", "minutes"]
    return _where(data) + _budget(data) + table(head, rows)


def search() -> str:
    """Width and depth of ``fast``, each after the same budget."""
    data = _load("search")
    rows = []
    for row in data["rows"]:
        channels, depth = row["network"].split("x")
        mark = " (best in time)" if row["network"] == data["best"] else ""
        times = [f"{ms['p50']:.1f}" for ms in row["ms"].values()]
        rows.append([channels, depth + mark, f"{row['gain_db']:+.2f}", *times])
    precisions = [f"256 to 1024 in {name.upper()}, ms" for name in data["rows"][0]["ms"]]
    head = ["channels", "convolutions", "held-out images, dB over bicubic", *precisions]
    return _where(data) + _budget(data) + table(head, rows)


def _budget(data: dict[str, Any]) -> str:
    patch = f", patches of {data['patch']}" if "patch" in data else ""
    return f"x{data['scale']}, {data['steps']} steps of {data['batch']} patches{patch}.\n\n"


def archive() -> str:
    """What a large archive costs, and what sharing the work costs and gains."""
    data = _load("archive")
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


def cases() -> str:
    """Files of the kinds that people report as trouble, and what clesr makes of them."""
    rows = [
        [
            f"`{row['file']}`",
            row["right"],
            row["reported"],
            "right" if not row["wrong"] else f"**{row['wrong']}**",
        ]
        for row in _load("cases")["rows"]
    ]
    return table(["file", "what is right", "reported in", "found"], rows)


def fuzz() -> str:
    """Damaged inputs that readers were tried on: what ``fuzz.run --add`` summed up."""
    found = _load("fuzz")["targets"]
    rows = [[f"`{row['target']}`", f"{row['inputs']:,}", str(row["findings"])] for row in found]
    inputs, findings = (sum(row[name] for row in found) for name in ("inputs", "findings"))
    rows.append(["all", f"{inputs:,}", str(findings)])
    return table(["target", "inputs", "findings"], rows)


def overload() -> str:
    """A source of three times the engine's rate, for minutes."""
    result = _load("overload")
    rows = []
    for row in result["rows"]:
        ages = " / ".join(f"{row['age_ms'][name]:.0f}" for name in ("p50", "p99", "p99.9", "most"))
        rows.append(
            [
                f"{row['engine']}, {row['size']}x{row['size']}",
                f"{row['engine_ms']:.0f}",
                f"{1e3 / row['period_ms']:.0f}",
                f"{row['limit_ms']:.0f}",
                ages,
                " / ".join(f"{row['sleeper_late_ms'][name]:.0f}" for name in ("p50", "p99", "p99.9", "most")),
                f"{row['captured']:,}",
                f"{row['shown']:,}",
                f"{row['outcomes']['stale']:,}",
                f"{row['raw']:,}" + ("" if row["complete"] else " **incomplete**"),
            ]
        )
    head = ["engine", "its ms", "frames/s of the source", "limit, ms", "age when shown, ms: p50 / p99 / p99.9 / most",
            "a sleeper is late, ms",
            "captured", "shown", "stale", "raw recorded"]  # fmt: skip
    load, seconds = result["machine"]["load"], result["rows"][0]["seconds"]
    said = f"{seconds / 60:.0f} minutes each; load of the machine before: {load:.1f}."
    return f"{_where(result)}{said}\n\n{table(head, rows)}"


BLOCKS: dict[str, Callable[[], str]] = {
    "overload": overload,
    "fuzz": fuzz,
    "cases": cases,
    "models": models,
    "engines": engines,
    "bench": bench,
    "pipeline": pipeline,
    "cores": cores,
    "streams": streams,
    "stills": stills,
    "evaluation": evaluation,
    "amplification": amplification,
    "linear": linear,
    "degradations": degradations,
    "noisy_stills": noisy_stills,
    "temporal": temporal,
    "memory": memory,
    "mosaic": mosaic,
    "mosaic_video": mosaic_video,
    "mutants": mutants,
    "readings": readings,
    "search": search,
    "archive": archive,
    "faults": fault_matrix.table,
    "isolation": isolation,
    "soak": soak,
    "views": views,
    "switching": switching,
}


def fill(text: str) -> str:
    """``text`` with what stands between ``<!-- figures: NAME -->`` and ``<!-- end -->`` made anew."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- figures: {match[1]} -->\n{BLOCKS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- figures: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return loaded


def _where(data: dict[str, Any]) -> str:
    machine = data["machine"]
    return f"Measured on {machine['cpu']}, {machine['cores']} cores.\n\n"


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where a document is out of date.")
def main(check: bool) -> None:
    """Fill the documents."""
    stale = []
    for path in DOCUMENTS:
        text = path.read_text()
        filled = fill(text)
        if filled != text:
            stale.append(path.name)
            if not check:
                path.write_text(filled)
    if stale:
        click.echo(f"{'out of date' if check else 'updated'}: {', '.join(stale)}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
