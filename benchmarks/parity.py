"""Every engine against the FP32 reference at every scale, on the test images: grey levels and PSNR.

python benchmarks/parity.py [--engine NAME] [--limit SECONDS] [--dry]

An engine passes where each image lies within the limits of the self-test, and PSNR over the images within 0.02 dB of
that of the reference. bf16 is for what carries the image.
With --dry on a processor, at a tiny size, whose PSNR says less, DenseNet's kernels in Triton's interpreter.
"""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import sys
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from stage import leave, tell

if "--dry" in sys.argv and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

from clesr.engines.backends.cuda import engine as cuda_engine
from clesr.engines.backends.cuda.buffers import GuidedInputs
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.engine import EngineInfo
from clesr.engines.guidance import Guidance, guide
from clesr.engines.models.registry import carries_image, level_names
from clesr.engines.models.weights import Model, find_model
from clesr.engines.worker import WorkerEngine
from clesr.pipeline.frame import Image
from clesr.tools.bench import baselines
from clesr.tools.bench.images import known_images
from clesr.tools.bench.measure import label, quality, reference
from clesr.tools.bench.report import signed
from clesr.tools.bench.run import all_candidates
from clesr.tools.bench.turns import upscaled
from clesr.tools.data.degrade import degrade

PSNR_LIMIT = 0.02  # dB over the images
DRY_LIMIT = 0.25  # dB over 16 x 16 pixels, in half precision
MODELS = ("densenet", "fast", "srcnn")
SCALES = (2, 4, 8)
BY_NAME = (*baselines.NAMES, "tensorrt")  # none of clesr's own, or minutes for each model and size

Pixels = NDArray[np.uint8]


def common_crops(images: list[Pixels], side: int | None = None) -> list[Pixels]:
    """The middles of ``images``, all of the largest size that all have, multiples of eight; of ``side`` where given."""
    height = side or min(image.shape[0] for image in images) // 8 * 8
    width = side or min(image.shape[1] for image in images) // 8 * 8
    crops = []
    for image in images:
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        crops.append(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return crops


def interpreted() -> EngineCandidate:
    """The ``cuda`` engine's networks on a processor: DenseNet in Triton's interpreter."""

    def open_interpreted(model: Model, shape: tuple[int, int], threads: int | None) -> WorkerEngine:
        network = cuda_engine.build_network(model.module, shape, torch.uint8, "cpu")

        def compute(lr: Image, guidance: Guidance | None = None) -> Image:
            network.lr.copy_(torch.from_numpy(lr))
            inputs: GuidedInputs | None = getattr(network, "guided", None)
            if inputs is not None:
                told = guidance or guide(lr)
                inputs.numbers.copy_(torch.from_numpy(inputs.pack(told.levels)))
                inputs.trust.copy_(torch.from_numpy(told.trust))
            network.run()
            if network.status[0]:
                raise EngineError("the network's output is not finite")
            return network.sr.numpy().copy()

        words, levels = "Triton's interpreter", level_names(model.module)
        info = EngineInfo("cuda", words, "fp16", model.name, model.sha256, model.scale, shape, levels=levels)
        return WorkerEngine(info, compute)

    return EngineCandidate(
        name="cuda",
        kind="cpu",
        device="Triton's interpreter",
        precision="fp16",
        rank=0,
        open=open_interpreted,
    )


def contenders(engine: str | None, dry: bool) -> list[EngineCandidate]:
    """What is checked: on a GPU ``engine``, or clesr's own that start at once there; dry, what a processor runs."""
    if dry:
        return [interpreted(), *(o for o in all_candidates() if o.available and o.kind == "cpu")]
    candidates = [o for o in all_candidates() if o.kind == "cuda" and o.available]
    return [o for o in candidates if (o.name == engine if engine else o.name not in BY_NAME)]


def suits(candidate: EngineCandidate, model: Model) -> bool:
    """Whether ``model`` is meant to run in the precision of ``offer``."""
    return candidate.precision != "bf16" or carries_image(model.module)


def check(
    candidate: EngineCandidate, model: Model, pairs: list[tuple[Pixels, Pixels, Pixels]], psnr_limit: float
) -> dict[str, Any]:
    """One engine with one model on (LR, HR, reference): a row that says whether it ``passed``, and if not why."""
    row: dict[str, Any] = {"label": label(candidate), "model": model.name, "scale": model.scale}
    height, width = pairs[0][0].shape
    try:
        engine = candidate.open(model, (height, width), None)
        try:
            found = [quality(upscaled(engine, lr), truth, hr) for lr, hr, truth in pairs]
        finally:
            engine.close()
    except EngineError as error:
        return row | {"passed": False, "reason": str(error)}
    change = statistics.fmean(f["psnr_db"]["difference"] for f in found)
    passed = abs(change) <= psnr_limit
    return row | {
        "passed": passed,
        "reason": "" if passed else f"PSNR differs by {change:+.3f} dB, {psnr_limit} are allowed",
        "mean": round(statistics.fmean(f["parity"]["mean"] for f in found), 5),
        "max": max(f["parity"]["max"] for f in found),
        "psnr_change_db": round(change, 5),
        "psnr_db": round(statistics.fmean(f["psnr_db"]["engine"] for f in found), 3),
    }


def said(row: dict[str, Any]) -> str:
    """A row in words."""
    found = (
        f"{row['mean']:.3f} levels, {row['max']} at most, PSNR {signed(row['psnr_change_db'])} dB; "
        if "mean" in row
        else ""
    )
    verdict = "passed" if row["passed"] else f"FAILED: {row['reason']}"
    return f"{row['label']} {row['model']} x{row['scale']}: {found}{verdict}"


@click.command()
@click.option(
    "--limit", type=float, default=90.0, show_default=True, help="Seconds after which no engine is opened."
)
@click.option(
    "--engine",
    metavar="NAME",
    help="This alone.  [default: clesr's own but tensorrt, which compiles for minutes]",
)
@click.option("--dry", is_flag=True, help="Tiny, on a processor.")
def main(limit: float, engine: str | None, dry: bool) -> None:
    """Check, print and write parity.json; exit 1 where an engine fails or there was no time for it."""
    if not dry and not torch.cuda.is_available():
        raise click.ClickException("there is no NVIDIA GPU here; --dry checks what a processor runs")
    begin = perf_counter()
    names, whole = zip(*known_images(512)[: 1 if dry else None], strict=True)
    images = common_crops(list(whole), 16 if dry else None)
    tell(f"on {', '.join(names)}", images=names)

    @functools.cache
    def case(name: str, scale: int) -> tuple[Model, list[tuple[Pixels, Pixels, Pixels]]]:
        """The model, and of each image LR, HR and what the reference makes of it."""
        model, lrs = find_model(name, scale), [degrade(image, scale) for image in images]
        return model, [(lr, hr, reference(model, lr)) for lr, hr in zip(lrs, images, strict=True)]

    rows: list[dict[str, Any]] = []
    for candidate, name, scale in itertools.product(contenders(engine, dry), MODELS, SCALES):
        if not suits(candidate, find_model(name, scale)):
            continue
        if perf_counter() - begin > limit:
            row = {"label": label(candidate), "model": name, "scale": scale, "passed": False}
            rows.append(row | {"reason": f"not reached within {limit:g} s"})
        else:
            half = candidate.precision in ("fp16", "bf16")
            rows.append(check(candidate, *case(name, scale), DRY_LIMIT if dry and half else PSNR_LIMIT))
        tell(said(rows[-1]), **rows[-1])
    failed = [row for row in rows if not row["passed"]]
    headline = [
        f"{len(rows) - len(failed)} of {len(rows)} engine and model pairs passed, on {', '.join(names)}"
    ]
    headline += [f"{row['label']} {row['model']} x{row['scale']}: {row['reason']}" for row in failed]
    sys.exit(
        leave(
            "parity",
            bool(rows) and not failed,
            headline,
            dry=dry,
            images=names,
            limit_db=PSNR_LIMIT,
            rows=rows,
        )
    )


if __name__ == "__main__":
    main()
