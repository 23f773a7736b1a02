"""What removing the pattern of fibre cores costs: alone, beside PyFibreBundle's own interpolation, in the whole path.

python benchmarks/cores.py [--output FILE] [--model fast] [--scale 4]

Times are the processor's, over all its cores, so that they hold on a machine that has other work.
"""

from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any

import click
import cv2
import numpy as np
from common import environment

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import EndOfSource
from clesr.engines.common.files import OWN, write_json
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import find_model
from clesr.pipeline.cores.calibration import CoreCalibration
from clesr.pipeline.cores.find import find_cores
from clesr.pipeline.cores.removal import CoreRemoval
from clesr.pipeline.frame import Frame, Image, Outcome
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.simulator.demo import DemoSource
from clesr.pipeline.temporal import StreamFusion
from clesr.tools.data.cores import hexagonal_bundle
from pipeline import live

SIZES = (256, 512, 768)
SPACING = 4.0  # pixels between the cores that are drawn
REPEATS = 100
FPS = 25.0
SHOWN = 10  # frames that go through the whole path


class BundleSource:
    """Frames of a bundle that are ready: recorded input that costs nothing to read."""

    def __init__(self, images: list[Image]) -> None:
        self.info = SourceInfo("bundle", False, FPS, (images[0].shape[0], images[0].shape[1]), len(images))
        self.begun = 0.0  # processor seconds when the first frame was asked for
        self._images, self._number = images, 0

    def read(self, timeout: float) -> Frame:
        if not self._number:
            self.begun = process_time()
        if self._number == len(self._images):
            raise EndOfSource
        number, self._number = self._number, self._number + 1
        return Frame(self._images[number], number, SYSTEM.now_ns())

    def close(self) -> None:
        pass


def pattern(size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(size, size) float32: the light of cores in a disc, each as bright as 1."""
    points = hexagonal_bundle().points * SPACING
    points = np.concatenate([points + np.array([y, x]) for y in (0, 500) for x in (0, 500)])
    places = np.rint(points[(np.hypot(*(points - size / 2).T) < 0.48 * size)]).astype(int)
    drawn = np.zeros((size, size), np.float32)
    drawn[tuple(places.T)] = 1
    light = cv2.GaussianBlur(drawn, (0, 0), 0.2 * SPACING)
    return np.asarray(light / light.max(), np.float32)


def frames(size: int, light: np.ndarray[Any, Any], count: int) -> list[Image]:
    """The simulated endomicroscope, seen through the bundle."""
    demo = DemoSource(f"demo:?size={size}&pace=max")
    read = (demo.read(1.0) for _ in range(count))
    images = [(frame.image * light).astype(np.uint8) for frame in read if isinstance(frame, Frame)]
    demo.close()
    return images


def milliseconds(work: Any, repeats: int = REPEATS) -> float:
    """Of the processor, for ``work`` once."""
    work()
    start = process_time()
    for _ in range(repeats):
        work()
    return round(1000 * (process_time() - start) / repeats, 2)


def pyfibrebundle(flat: Image, image: Image) -> float:
    """Processor milliseconds of PyFibreBundle's interpolation to an image of the same size, with Numba."""
    import pybundle

    calibration = pybundle.calib_tri_interp(flat, SPACING, flat.shape[0], filterSize=1, normalise=flat)
    return milliseconds(lambda: pybundle.recon_tri_interp(image, calibration, numba=True), 20)


def whole_path(images: list[Image], cores: CoreCalibration | None, model: str, scale: int) -> float:
    """Processor milliseconds a frame from source to sink, where every frame is up-scaled."""
    source = BundleSource(images)
    run = Pipeline(
        source,
        lambda shape: open_engine("auto", find_model(model, scale), scale, shape),
        [open_sink("null")],
        scale=scale,
        prepare=Prepare(cores=cores, temporal=StreamFusion()),
    )
    summary = run.run()
    assert summary.outcomes[Outcome.UPSCALED] == len(images)
    return round(1000 * (process_time() - source.begun) / len(images), 1)


@click.command()
@click.option("--output", default="benchmarks/results/cores.json", show_default=True)
@click.option("--model", default="fast", show_default=True)
@click.option("--scale", default=4, show_default=True)
def main(output: str, model: str, scale: int) -> None:
    """Measure and write JSON."""
    rows = []
    for size in SIZES:
        light = pattern(size)
        flat = np.asarray(200 * light, np.uint8)
        start = process_time()
        cores = find_cores(flat.astype(np.float32), top=255, name="drawn")
        found_s = process_time() - start
        image = frames(size, light, 1)[0]
        deep = image.astype(np.uint16) * np.uint16(257)
        remove = CoreRemoval(cores)
        row: dict[str, Any] = {
            "size": size,
            "cores": len(cores.places),
            "find_s": round(found_s, 2),
            "remove_8_ms": milliseconds(lambda: remove(image)),  # noqa: B023
            "remove_16_ms": milliseconds(lambda: remove(deep)),  # noqa: B023
            "pyfibrebundle_ms": pyfibrebundle(flat, image),
        }
        if size == 512:
            images = frames(size, light, SHOWN)
            row["path_ms"] = whole_path(images, None, model, scale)
            row["path_cores_ms"] = whole_path(images, cores, model, scale)
            row["live_25"] = {f"x{times}": live(size, model, times, cores=cores) for times in (2, scale)}
        rows.append(row)
        click.echo(str(row))
    result = {
        "benchmark": "cores",
        **environment(),
        "model": model,
        "scale": scale,
        "spacing": SPACING,
        "rows": rows,
    }
    write_json(Path(output), result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
