"""Blocks of the documents, a function each: how good the images are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from blocks.results import RESULTS, load, table, where
from clesr.engines.models.registry import count_operations, count_parameters
from clesr.engines.models.weights import load_model, shipped
from clesr.tools.evaluation.evaluate import MethodSummary, from_json, summarise


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
        [row for row in load("degradations/shipped")["rows"] if row["scale"] == scale],
        lambda row: f"`{row['degradation']}`",
        lambda row: _below_zero_bold(row["gain_db"]),
    )


def amplification() -> str:
    """How much of the noise of LR images is in each method's image, against the bicubic one."""
    rows = sorted(
        load("degradations/shipped")["amplification"], key=lambda row: (4, 2, 8).index(row["scale"])
    )
    return _by_method(
        "noise, grey levels",
        rows,
        lambda row: f"x{row['scale']}: {row['noise']}",
        lambda row: f"{row['times_bicubic']:.2f}",
    )


def linear() -> str:
    """What `fast` gains beside the best linear filters for each image."""
    best = {(row["scale"], row["degradation"]): row["gain_db"] for row in load("linear")["rows"]}
    found = {
        (row["scale"], row["degradation"]): row["gain_db"]
        for row in load("degradations/shipped")["rows"]
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
        for kind, gain in load("temporal/gain")["gain"].items()
    ]
    return table(["LR frames", "single frame over bicubic", "added from the 8th frame on", "least"], rows)


def _below_zero_bold(gain: float) -> str:
    return f"**{gain:+.2f}**" if gain < 0 else f"{gain:+.2f}"


def _quality(line: MethodSummary | None) -> str:
    if line is None or line.gain is None:
        return ""
    return f"{line.psnr.value:.2f} ({line.gain.value:+.2f}) / {line.ssim.value:.3f}"


def mosaic() -> str:
    """How far frames on maps lie from their true places, and what a frame costs."""
    data = load("mosaic")
    measured = {f"simulator, {name}, x4": row for name, row in data["simulator"].items()}
    rows = [
        [name, str(row["frames"]), f"{row['rms_px']:.2f}", f"{row['most_px']:.2f}", f"{row['cpu_ms']:.0f}"]
        for name, row in (measured | {"still, x2": data["still"]}).items()
    ]
    head = ["scene", "frames", "error, SR pixels rms", "most", "processor time a frame, ms"]
    return where(data["environment"]) + table(head, rows)


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
        for index, row in enumerate(load("mosaic")["colon"]["maps"], 1)
    ]
    return table(["map", "frames drawn", "pixels", "correlation with the map, median", "MB"], rows)


def readings() -> str:
    """The readings of the paper's text, each after the same budget."""
    data = load("readings")
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
    return where(data) + _budget(data) + table(head, rows)


def search() -> str:
    """Width and depth of ``fast``, each after the same budget."""
    data = load("search")
    rows = []
    for row in data["rows"]:
        channels, depth = row["network"].split("x")
        mark = " (best in time)" if row["network"] == data["best"] else ""
        times = [f"{ms['p50']:.1f}" for ms in row["ms"].values()]
        rows.append([channels, depth + mark, f"{row['gain_db']:+.2f}", *times])
    precisions = [f"256 to 1024 in {name.upper()}, ms" for name in data["rows"][0]["ms"]]
    head = ["channels", "convolutions", "held-out images, dB over bicubic", *precisions]
    return where(data) + _budget(data) + table(head, rows)


def _budget(data: dict[str, Any]) -> str:
    patch = f", patches of {data['patch']}" if "patch" in data else ""
    return f"x{data['scale']}, {data['steps']} steps of {data['batch']} patches{patch}.\n\n"
