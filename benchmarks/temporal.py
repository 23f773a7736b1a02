"""What earlier frames are worth: simulated motion over stills, a real video, whether detail follows the tissue, time.

python benchmarks/temporal.py --data FOLDER --model FILE [--stills PATTERN] [--part NAME ...] [--output FOLDER]

Writes a file for each part: gain.json, video.json, detail.json, time.json. FILE is a network for x4.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import click
import cv2
import numpy as np
from common import environment
from motion import move_over
from numpy.typing import NDArray

from clesr.engines.common.files import OWN, write_json
from clesr.engines.common.image import Floats, Pixels
from clesr.engines.common.resample import quantise, resize
from clesr.engines.models.weights import Model, load_model
from clesr.engines.temporal.fusion import TemporalFusion
from clesr.engines.view import field_of_view
from clesr.tools.data.degradations import Degradation, parse_degradations
from clesr.tools.data.degrade import crop_to_multiple, degrade, halve
from clesr.tools.data.images import image_files, read_gray
from clesr.tools.evaluation.gain import upscale_image
from clesr.tools.evaluation.metrics import psnr

FRAMES, CUT = 20, 14  # of a simulated sequence, and the number of the frame after its cut
DEGRADATIONS = "clean,noise=2,noise=5,noise=10,point,jpeg=50"
FULL = 7  # from the eighth frame on
REGISTERED = (
    6.0  # grey levels: pixels of two frames that differ by less, after registration, show the same tissue
)
TEXT = 0.1, 0.2  # of height and width: the corners of the video with burnt-in text

Mask = NDArray[np.bool_]
Quad = tuple[Pixels, Pixels, Pixels, Pixels]  # truth, LR, the single frame, the fused one


def bicubic(lr: Pixels, shape: tuple[int, ...]) -> Pixels:
    return quantise(resize(lr, shape[0], shape[1]), lr.dtype)


def lr_mask(mask: Mask, scale: int) -> Mask:
    return mask[scale // 2 :: scale, scale // 2 :: scale]


def gains(model: Model, stills: list[Path]) -> dict[str, Any]:
    """By degradation: the single frame over bicubic, and what fusion adds by the number of frames seen."""
    found = {}
    for degradation in parse_degradations(DEGRADATIONS):
        single, added, rest = (np.zeros((len(stills), FRAMES)) for _ in range(3))
        for row, path in enumerate(stills):
            still = read_gray(path)
            fusion: TemporalFusion | None = None
            for frame in move_over(still, model.scale, FRAMES, degradation, seed=row, cuts=(CUT,)):
                mask = field_of_view(frame.truth)
                fusion = fusion or TemporalFusion((frame.lr.shape[0], frame.lr.shape[1]), model.scale)
                sr = upscale_image(model.module, frame.lr)
                fused, count = fusion(frame.lr, sr, frame.number, lr_mask(mask, model.scale))
                alone = psnr(frame.truth, sr, mask)
                single[row, frame.number] = alone - psnr(frame.truth, bicubic(frame.lr, mask.shape), mask)
                added[row, frame.number] = psnr(frame.truth, np.asarray(fused, np.uint8), mask) - alone
                rest[row, frame.number] = count
        found[str(degradation)] = {
            "single_over_bicubic_db": round(float(single.mean()), 3),
            "added_by_frame_db": added[:, :CUT].mean(0).round(3).tolist(),
            "added_from_eighth_db": round(float(added[:, FULL:CUT].mean()), 3),
            "added_least_db": round(float(added.min()), 3),
            "added_after_cut_db": added[:, CUT:].mean(0).round(3).tolist(),
            "added_first_after_cut_least_db": round(float(added[:, CUT].min()), 3),
            "rests_on_frames": rest.mean(0).round(2).tolist(),
        }
    return found


def video_frames(path: Path) -> Iterator[Pixels]:
    """The frames of the video that differ from the one before."""
    video, last = cv2.VideoCapture(str(path)), None
    while True:
        there, frame = video.read()
        if not there:
            return
        gray = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
        if last is None or np.abs(gray.astype(np.int16) - last).mean() > 0.3:
            yield gray
        last = gray


def disc(image: Pixels) -> Mask:
    """The field of view of a frame of the video, whatever text is in its corners."""
    height, width = (round(length * part) for length, part in zip(image.shape, TEXT, strict=True))
    plain = image.copy()
    plain[:height, :width] = plain[-height:, -width:] = 0
    return field_of_view(plain)


def on_video(model: Model, frames: list[Pixels], noise: float) -> Iterator[tuple[Quad, Mask, float]]:
    """Each frame shrunk by two, then degraded, enlarged and fused; its field of view; how many frames it rests on."""
    degradation = parse_degradations(f"noise={noise:g}" if noise else "clean")[0]
    fusion: TemporalFusion | None = None
    for number, frame in enumerate(frames):
        truth = np.ascontiguousarray(crop_to_multiple(halve(frame), model.scale))
        lr = degradation(truth, model.scale, np.random.default_rng((number, 2)))
        fusion = fusion or TemporalFusion((lr.shape[0], lr.shape[1]), model.scale)
        sr = upscale_image(model.module, lr)
        fused, count = fusion(lr, sr, number, field_of_view(lr))  # as the pipeline would: with the text
        yield (truth, lr, sr, np.asarray(fused, np.uint8)), disc(truth), count


def on_stills(model: Model, stills: list[Path], degradation: Degradation) -> Iterator[tuple[Quad, Mask]]:
    for row, path in enumerate(stills):
        fusion: TemporalFusion | None = None
        for frame in move_over(read_gray(path), model.scale, 12, degradation, seed=row):
            mask = field_of_view(frame.truth)
            fusion = fusion or TemporalFusion((frame.lr.shape[0], frame.lr.shape[1]), model.scale)
            sr = upscale_image(model.module, frame.lr)
            fused, _ = fusion(frame.lr, sr, frame.number + 1000 * row, lr_mask(mask, model.scale))
            yield (frame.truth, frame.lr, sr, np.asarray(fused, np.uint8)), mask


def video(model: Model, frames: list[Pixels]) -> dict[str, Any]:
    found = {}
    for noise in (0.0, 4.0):
        added, counts = [], []
        for (truth, _, sr, fused), mask, count in on_video(model, frames, noise):
            added.append(psnr(truth, fused, mask) - psnr(truth, sr, mask))
            counts.append(count)
        found[f"noise={noise:g}"] = {
            "frames": len(added),
            "added_mean_db": round(float(np.mean(added)), 3),
            "added_least_db": round(min(added), 3),
            "added_most_db": round(max(added), 3),
            "rests_on_frames": round(float(np.mean(counts)), 2),
        }
    return found


def added(image: Pixels, scale: int) -> Floats:
    """What an image has beyond the bicubic image of its own reduction: noise of the LR image is no part of it."""
    return image.astype(np.float32) - bicubic(degrade(image, scale), image.shape)


def follows(frames: Iterator[tuple[Quad, Mask]], scale: int) -> dict[str, Any]:
    """How far added detail is that of the frame before, carried along with the tissue by registration
    of the truths: the correlation of the two, where the truths agree. And how much SR images differ there."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    sums: dict[str, NDArray[np.float64]] = {name: np.zeros(4) for name in ("single", "fused", "truth")}
    pixels = 0
    for (before, _), (now, mask) in itertools.pairwise(frames):
        if before[0].shape != now[0].shape:
            continue
        field = flow.calc(now[0], before[0], None)  # type: ignore[call-overload]
        y, x = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
        at = np.dstack([x, y]) + field

        def carried(image: Floats | Pixels, at: Floats = at) -> Floats:
            return np.asarray(cv2.remap(image.astype(np.float32), at, None, cv2.INTER_CUBIC), np.float32)

        apart = cv2.blur(np.abs(carried(before[0]) - now[0]), (9, 9))
        where = mask & (carried(mask.astype(np.float32)) > 0.99) & (apart < REGISTERED)
        if where.sum() < 0.5 * mask.sum():
            continue
        pixels += int(where.sum())
        for name, which in (("truth", 0), ("single", 2), ("fused", 3)):
            detail = added(now[which], scale)[where]
            earlier = carried(added(before[which], scale))[where]
            change = (carried(before[which]) - now[which])[where]
            sums[name] += [(detail * earlier).sum(), (detail**2).sum(), (earlier**2).sum(), (change**2).sum()]
    return {
        name: {
            "follows": round(float(s[0] / np.sqrt(s[1] * s[2])), 3),
            "flicker_levels": round(float(np.sqrt(s[3] / max(pixels, 1))), 3),
        }
        for name, s in sums.items()
    }


def details(model: Model, stills: list[Path], frames: list[Pixels]) -> dict[str, Any]:
    found = {
        f"stills {degradation}": follows(on_stills(model, stills, degradation), model.scale)
        for degradation in parse_degradations("clean,noise=5")
    }
    for noise in (0.0, 4.0):
        shown = ((quad, mask) for quad, mask, _ in on_video(model, frames, noise))
        found[f"video noise={noise:g}"] = follows(shown, model.scale)
    return found


def times(still: Pixels) -> list[dict[str, Any]]:
    """Milliseconds a frame of the fusion alone, by the clock and of processor time of all threads."""
    found = []
    for size, scale, threads in itertools.product((128, 256), (2, 4, 8), (1, 2)):
        cv2.setNumThreads(threads)
        large = np.asarray(
            cv2.resize(still, (size * scale + 200,) * 2, interpolation=cv2.INTER_CUBIC), np.uint8
        )
        fusion, view, spent = TemporalFusion((size, size), scale), np.ones((size, size), np.bool_), []
        cpu: list[float] = []
        for number in range(16):
            corner = 9 * number % 180, 5 * number % 180
            sr = np.ascontiguousarray(
                large[corner[0] : corner[0] + size * scale, corner[1] : corner[1] + size * scale]
            )
            lr = quantise(resize(sr, size, size), sr.dtype)
            start, start_cpu = perf_counter(), process_time()
            fusion(lr, sr, number, view)
            spent.append(1e3 * (perf_counter() - start))
            cpu.append(1e3 * (process_time() - start_cpu))
        found.append(
            {"lr": size, "scale": scale, "threads": threads, "p50_ms": round(float(np.median(spent[2:])), 2),
             "least_ms": round(min(spent[2:]), 2), "cpu_p50_ms": round(float(np.median(cpu[2:])), 2)}
        )  # fmt: skip
    return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--model", "file", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--stills", default="test/cle_*", help="Under --data.")
@click.option("--part", "parts", multiple=True, type=click.Choice(["gain", "video", "detail", "time"]))
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/temporal"))
def main(data: Path, file: Path, stills: str, parts: tuple[str, ...], output: Path) -> None:
    model = load_model(file)
    paths = image_files(str(data / stills))
    frames = list(video_frames(data / "video" / "colon_pcle.mpeg"))
    work: dict[str, Callable[[], Any]] = {
        "gain": lambda: gains(model, paths),
        "video": lambda: video(model, frames),
        "detail": lambda: details(model, paths, frames),
        "time": lambda: times(read_gray(paths[0])),
    }
    output.mkdir(parents=True, exist_ok=True)
    for part in parts or work:
        found = {"environment": environment(), "model": model.sha256, "stills": stills, part: work[part]()}
        print(json.dumps(found[part], indent=1), flush=True)
        write_json(output / f"{part}.json", found, OWN)


if __name__ == "__main__":
    main()
