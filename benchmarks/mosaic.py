"""How true and how costly maps are: the simulator and a still whose truth is known, a real video, the live path.

CLESR_DATA=FOLDER python benchmarks/mosaic.py [--part NAME ...]

Writes benchmarks/results/mosaic.json, and docs/mosaic.png: a still under a moving probe, of which the truth is known.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import click
import cv2
import numpy as np
from common import ROOT, environment
from numpy.typing import NDArray
from temporal import video_frames

from clesr.engines.common.files import OWN, write_json
from clesr.engines.common.image import Floats, Image, Pixels
from clesr.engines.common.resample import quantise, resize
from clesr.engines.factory import open_engine
from clesr.engines.opener import EngineOpener
from clesr.engines.results import run_frame
from clesr.engines.view import field_of_view
from clesr.pipeline.mosaic.mosaic import Mosaic
from clesr.pipeline.mosaic.tissue_map import TissueMap
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.settings import MOSAIC_MB, LiveSettings
from clesr.pipeline.sinks.mosaic import MosaicFile
from clesr.pipeline.sinks.null import Null
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.simulator.phantom import Phantom
from clesr.tools.data.images import read_gray

STILL = "test/cle_compressedCell_VC.png"  # M. Aubreville, CC BY 4.0
VIEW, SCALE, NOISE = 96, 2, 3.0  # LR pixels across the probe that looks at the still; grey levels
FRAMES, SEEDS = 100, (0, 3, 5)
SECONDS = 12.0  # of each live run
PANEL, CAPTION, GAP = 512, 44, 12
RESULT, PICTURE = ROOT / "benchmarks" / "results" / "mosaic.json", ROOT / "docs" / "mosaic.png"

Places = NDArray[np.float64]


def maps_of(images: Iterable[Image]) -> tuple[list[TissueMap], float]:
    """The maps of SR ``images``, and the processor time of a frame in ms."""
    ended: list[TissueMap] = []
    mosaic = Mosaic(ended.append, limit_mb=MOSAIC_MB)
    spent = []
    for number, image in enumerate(images):
        begun = process_time()
        if number % 16 == 0:
            view = field_of_view(image)
        mosaic.add(image, number, number / 12, view)
        spent.append(process_time() - begun)
    mosaic.end()
    return ended, round(float(np.median(spent)) * 1e3, 1)


def errors(made: TissueMap, true: Places) -> dict[str, Any]:
    """By how many SR pixels the frames of ``made`` lie beside their ``true`` places, seen from the first."""
    placed = [(frame.number, frame.placement) for frame in made.frames if frame.placement is not None]
    found = np.array([(place.x, place.y) for _, place in placed])
    wanted = true[[number for number, _ in placed]]
    off = np.hypot(*((found - found[0]) - (wanted - wanted[0])).T)
    return {
        "frames": len(placed),
        "rms_px": round(float(np.sqrt(np.square(off).mean())), 3),
        "most_px": round(float(off.max()), 3),
    }


def upscaled(images: Iterable[Image], shape: tuple[int, int], scale: int) -> list[Image]:
    engine = open_engine("auto", "fast", scale, shape, device="cpu")
    try:
        return [run_frame(engine, image) for image in images]
    finally:
        engine.close()


def simulator() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for seed in SEEDS:
        phantom = Phantom(256, seed, fps=12.0)
        ways = [phantom.motion.at(number / phantom.fps) for number in range(FRAMES + 1)]
        true = np.array([(one + other) / 2 for one, other in pairwise(ways)]) * 1024 / phantom.fov_um
        images = upscaled((phantom.measured(number) for number in range(FRAMES)), (256, 256), 4)
        (made,), spent = maps_of(images)
        found[f"seed {seed}"] = errors(made, true) | {"cpu_ms": spent}
    return found


def winding(count: int, reach: float) -> Places:
    """A way over a square of ``reach`` to either side, to and fro, with tremor."""
    line = np.linspace(0, 1, count)
    across = reach * np.sin(2 * np.pi * 2.5 * line)
    down = reach * (2 * line - 1)
    tremor = np.random.default_rng(0).normal(0, 0.4, (count, 2))
    return np.stack([across, down], axis=1) + tremor


def probe(still: Pixels, way: Places) -> list[Image]:
    """What a round probe sees of ``still`` on the ``way`` of its middle, row by row, shrunk by SCALE, with noise."""
    side = VIEW * SCALE
    steps = np.diff(np.vstack([way, way[-1:]]), axis=0) / side
    y, x = np.mgrid[:VIEW, :VIEW] - (VIEW - 1) / 2
    round_view = np.hypot(x, y) < VIEW / 2 - 1
    seen: list[Image] = []
    for number, (at, lean) in enumerate(zip(way, steps, strict=True)):
        corner = np.array(still.shape[::-1]) / 2 + at - side / 2 - lean * (side - 1) / 2
        matrix = np.array([[1, lean[0], corner[0]], [0, 1 + lean[1], corner[1]]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        large = np.asarray(cv2.warpAffine(still, matrix, (side, side), flags=flags), np.float32)
        noise = np.random.default_rng(number).normal(0, NOISE, (VIEW, VIEW)).astype(np.float32)
        seen.append(quantise((resize(large, VIEW, VIEW) + noise) * round_view, np.dtype(np.uint8)))
    return seen


def known_still(data: Path) -> dict[str, Any]:
    """A still under a small probe, and the picture of its map."""
    still = read_gray(data / STILL)
    way = winding(160, 130.0)
    images = upscaled(probe(still, way), (VIEW, VIEW), SCALE)
    maps, spent = maps_of(images)
    found = errors(maps[0], way) | {"maps": len(maps), "cpu_ms": spent}
    _picture(still, way, images[0], maps[0])
    return found


def _picture(still: Pixels, way: Places, frame: Image, made: TissueMap) -> None:
    box = made.canvas.box
    assert box is not None
    height, width = box.bottom - box.top, box.right - box.left
    mean, _ = made.canvas.read(box.left, box.top, (height, width))
    left, top = (np.array(still.shape[::-1]) / 2 + way[0] - VIEW * SCALE / 2 + box[:2]).round().astype(int)
    panels = {
        f"one frame of {len(made.frames)}": _placed(
            frame.astype(np.float32), mean.shape, -box.left, -box.top
        ),
        "the map": mean,
        "the still, for comparison": still[max(top, 0) : top + height, max(left, 0) : left + width].astype(
            np.float32
        ),
    }
    gap = np.full((CAPTION + PANEL, GAP), 255, np.uint8)
    columns = [_panel(caption, image) for caption, image in panels.items()]
    row = np.hstack([piece for column in columns for piece in (column, gap)][:-1])
    cv2.imwrite(str(PICTURE), row, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _placed(image: Floats, shape: tuple[int, ...], left: int, top: int) -> Floats:
    whole = np.zeros(shape, np.float32)
    whole[top : top + image.shape[0], left : left + image.shape[1]] = image
    return whole


def _panel(caption: str, image: Floats) -> Pixels:
    ratio = PANEL / max(image.shape)
    small = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    shown = np.zeros((PANEL, small.shape[1]), np.uint8)
    shown[: small.shape[0]] = np.clip(small, 0, 255).astype(np.uint8)
    head = np.full((CAPTION, small.shape[1]), 255, np.uint8)
    cv2.putText(head, caption, (2, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 30, 2, cv2.LINE_AA)
    return np.vstack((head, shown)).astype(np.uint8)


def colon(data: Path) -> dict[str, Any]:
    """The real video, without frames that repeat the one before."""
    frames = list(video_frames(data / "video" / "colon_pcle.mpeg"))
    maps, spent = maps_of(upscaled(frames, (frames[0].shape[0], frames[0].shape[1]), SCALE))
    rows = []
    for made in maps:
        agreement = [f.agreement for f in made.frames if f.placement is not None]
        box = made.canvas.box
        assert box is not None
        rows.append(
            {
                "drawn": made.count,
                "of": len(made.frames),
                "size": [box.right - box.left, box.bottom - box.top],
                "agreement_p50": round(float(np.median(agreement)), 2),
                "mb": round(made.bytes / (1 << 20), 1),
            }
        )
    return {"frames": len(frames), "maps": rows, "cpu_ms": spent}


def live(folder: Path) -> dict[str, Any]:
    """The live path at x4 with and without a map, in turns: images a second, latency, processor time a frame."""
    rows: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    for turn in range(4):
        name = "with" if turn % 2 else "without"
        source = open_source("demo:?size=256&fps=12&seed=3")
        sinks: Sequence[Any] = [Null()]
        if name == "with":
            sinks = [*sinks, MosaicFile(str(folder / f"{turn}.ome.tif"))]
        settings = LiveSettings(source="demo:", model="fast")
        pipeline = Pipeline(
            source,
            EngineOpener.of(settings, 12.0),
            sinks,
            scale=4,
            prepare=settings.prepare(source.info),
            limits=Limits(None, SECONDS),
        )
        begun = process_time()
        pipeline.run()
        summary = pipeline.summary()
        done = summary.outcomes["upscaled"]  # type: ignore[index]
        rows[name].append(
            {
                "captured": summary.captured,
                "upscaled": done,
                "total_p50_ms": round(summary.latency_ms["total"]["p50"], 1),
                "total_p95_ms": round(summary.latency_ms["total"]["p95"], 1),
                "cpu_ms": round((process_time() - begun) / max(done, 1) * 1e3, 1),
                "drawn": getattr(sinks[-1], "frames", 0),
            }
        )
    return dict(rows)


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(["simulator", "still", "colon", "live"]))
def main(parts: tuple[str, ...]) -> None:
    """Measure, all parts or some, and write what was found."""
    data = Path(os.environ["CLESR_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        work: dict[str, Callable[[], Any]] = {
            "simulator": simulator,
            "still": lambda: known_still(data),
            "colon": lambda: colon(data),
            "live": lambda: live(Path(folder)),
        }
        found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        found["environment"] = environment()
        for part in parts or work:
            found[part] = work[part]()
            print(part, json.dumps(found[part], indent=1), flush=True)
    write_json(RESULT, found, OWN)


if __name__ == "__main__":
    main()
