"""Archives: what sharing the work on Ray costs and gains, what each stage costs, and what 100,000 hours would.

python benchmarks/archive.py --data FOLDER [--output FILE] [--repeats 3]     measure and write JSON
python benchmarks/archive.py --estimate                                      reckon from the JSON alone

FOLDER has the real video (video/colon_pcle.mpeg). The runs are compared within each repeat, in turn; the stages are
measured in processor seconds, which other work on the machine disturbs least.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import click
from common import ROOT, environment

from clesr.engines.common.errors import EndOfSource
from clesr.engines.common.files import OWN, write_json
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import find_model
from clesr.pipeline.frame import Frame, Image, Outcome, Result, Times
from clesr.pipeline.prepare import Roi
from clesr.pipeline.sources.video.file import VideoSource
from clesr.tools.archive.cluster import AHEAD, RayExecutor
from clesr.tools.archive.journal import Journal
from clesr.tools.archive.messages import Executor
from clesr.tools.archive.runner import Runner
from clesr.tools.archive.segments import SegmentFile, join
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.tree import ArchiveTree
from clesr.tools.archive.worker import LocalExecutor, work_folder

RESULT = ROOT / "benchmarks" / "results" / "archive.json"
SCALE, MODEL = 4, "fast"
ROI = Roi(160, 168, 256, 256)  # the middle of the real video's field of view
SMALL = Roi(160, 168, 96, 96)  # of the runs that are compared
COPIES, PIECE = 2, 65
STAGE_FRAMES = 48

# What the estimate takes for granted. The GPU's figure is the limit set for an H200-class card, not a measurement.
ASSUMED: dict[str, float] = {
    "hours": 100_000,
    "fps": 12,
    "gpu_ms_a_frame": 1.1,
    "cores_a_gpu": 16,
    "storage_gb_s": 10,
    "network_gb_s_a_machine": 12.5,
    "gpus_a_machine": 8,
    "cpu_cores_a_machine": 64,
}
GPUS = (1, 10, 100)


def main_runs(video: Path, repeats: int, folder: Path) -> dict[str, Any]:
    """Seconds of the same archive by the plain run, one Ray worker, and two, one thread each; in turn."""
    archive = folder / "archive"
    archive.mkdir()
    for number in range(COPIES):
        shutil.copy(video, archive / f"{number}.mpeg")
    sha = find_model(MODEL, SCALE).sha256
    settings = Settings(
        scale=SCALE, model=MODEL, model_sha256=sha, engine="openvino", roi=SMALL, piece=PIECE, threads=1
    )

    def executor(workers: int, out: Path) -> Executor:
        if not workers:
            return LocalExecutor(settings, out)
        return RayExecutor(settings, out, address="local", workers=workers)

    rows = []
    for repeat in range(repeats):
        row: dict[str, Any] = {}
        hashes = set()
        for name, workers in (("plain", 0), ("one_worker", 1), ("two_workers", 2)):
            out = folder / f"{name}{repeat}"
            work_folder(out).mkdir(parents=True)
            row[name] = _timed_run(partial(executor, workers, out), workers, archive, out, settings)
            hashes.add(_hash_of(out))
            shutil.rmtree(out)
        row["same_bytes"] = len(hashes) == 1
        rows.append(row)
        click.echo(f"{repeat + 1}/{repeats}: {row}")
    ratio = {
        name: round(statistics.median(r["plain"]["run_s"] / r[name]["run_s"] for r in rows), 3)
        for name in ("one_worker", "two_workers")
    }
    frames = rows[0]["plain"]["frames"]
    return {
        "files": COPIES,
        "frames": frames,
        "lr": [SMALL.height, SMALL.width],
        "piece": PIECE,
        "rows": rows,
        "speed_of_plain": ratio,
        "start_s": round(statistics.median(r["two_workers"]["start_s"] for r in rows), 2),
        "same_bytes": all(r["same_bytes"] for r in rows),
    }


def _timed_run(
    make: Callable[[], Executor], workers: int, archive: Path, out: Path, settings: Settings
) -> dict[str, float]:
    start = perf_counter()
    with closing(make()) as executor, closing(Journal(out)) as journal:
        if isinstance(executor, LocalExecutor):
            executor.choose_model()  # opens an engine, as the workers on Ray do before their first task
        else:
            while executor.free() < AHEAD * workers:
                executor.wait()
        started = perf_counter()
        report = Runner(executor, ArchiveTree(archive, out), journal, settings, out).run()
        ended = perf_counter()
    assert report.broken == 0, report.listed
    return {
        "start_s": round(started - start, 3),
        "run_s": round(ended - started, 3),
        "frames": report.frames,
    }


def stages(video: Path, folder: Path) -> dict[str, Any]:
    """Processor seconds and bytes a pixel of each stage, on the frames of the real video."""
    with closing(VideoSource(video)) as source:
        start = process_time()
        frames = [frame.image for frame in _frames(source)]
        decode = process_time() - start
    lr = [ROI.cut(image).copy() for image in frames[:STAGE_FRAMES]]
    engine = open_engine("openvino", find_model(MODEL, SCALE), SCALE, (ROI.height, ROI.width), threads=1)
    engine.submit(lr[0])
    engine.collect()
    start = process_time()
    sr: list[Image] = []
    for image in lr:
        engine.submit(image)
        sr.append(engine.collect())
    compute = process_time() - start
    name = str(engine.info)
    engine.close()
    raw_s, raw = _encode(lr, folder / "raw.mkv")
    out_s, out = _encode(sr, folder / "sr.mkv")
    with closing(VideoSource(raw)) as source:
        start = process_time()
        sum(1 for _ in _frames(source))
        raw_decode = process_time() - start
    start = process_time()
    join([out], folder / "joined.mkv")
    joined_s = process_time() - start
    start = process_time()
    hashlib.file_digest(out.open("rb"), "sha256")
    hash_s = process_time() - start
    lr_pixels, sr_pixels = len(lr) * lr[0].size, len(sr) * sr[0].size
    return {
        "frames": len(lr),
        "lr": list(lr[0].shape),
        "sr": list(sr[0].shape),
        "engine": name,
        "mpeg": _stage(decode, len(frames) * frames[0].size, video.stat().st_size),
        "raw_ffv1_decode": _stage(raw_decode, lr_pixels, raw.stat().st_size),
        "raw_ffv1_encode": _stage(raw_s, lr_pixels, raw.stat().st_size),
        "engine_cpu": _stage(compute, lr_pixels, 0),
        "sr_ffv1_encode": _stage(out_s, sr_pixels, out.stat().st_size),
        "join": _stage(joined_s, sr_pixels, out.stat().st_size),
        "hash": _stage(hash_s, sr_pixels, out.stat().st_size),
    }


def _stage(seconds: float, pixels: int, size: int) -> dict[str, float]:
    return {"ns_a_pixel": round(1e9 * seconds / pixels, 3), "bytes_a_pixel": round(size / pixels, 4)}


def _encode(images: list[Image], path: Path) -> tuple[float, Path]:
    sink = SegmentFile(path, codec="ffv1", fps=12.0, origin=0)
    start = process_time()
    for number, image in enumerate(images):
        frame = Frame(image, number, number * 83_000_000)
        sink.write(Result(frame, image, image, Outcome.UPSCALED, 1, Times(0, 0, 0, 0), MODEL))
    sink.close()
    return process_time() - start, path


def _frames(source: VideoSource) -> Iterator[Frame]:
    while True:
        try:
            item = source.read(1.0)
        except EndOfSource:
            return
        if isinstance(item, Frame):
            yield item


def _hash_of(out: Path) -> str:
    files = sorted(out.glob("*.mkv"))
    return " ".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


def estimate(stages: dict[str, Any], assumed: dict[str, float]) -> dict[str, Any]:
    """What ``assumed["hours"]`` of video cost: by arithmetic alone, from bytes and processor seconds a pixel.

    A frame is read (lossless raw), decoded, computed, encoded, written as a piece, read and written again by the join,
    and its bytes are hashed. Each resource gives a rate in frames a second; the smallest is the rate of the whole.
    """
    lr = stages["lr"][0] * stages["lr"][1]
    sr = stages["sr"][0] * stages["sr"][1]
    frames = assumed["hours"] * 3600 * assumed["fps"]
    bytes_in = lr * stages["raw_ffv1_decode"]["bytes_a_pixel"]
    bytes_out = sr * stages["sr_ffv1_encode"]["bytes_a_pixel"]
    moved = 2 * bytes_in + 4 * bytes_out  # hashed and decoded; written, read, written, read for its hash
    decode_s = lr * stages["raw_ffv1_decode"]["ns_a_pixel"] / 1e9
    encode_s = sr * stages["sr_ffv1_encode"]["ns_a_pixel"] / 1e9
    rest_s = sr * (stages["join"]["ns_a_pixel"] + stages["hash"]["ns_a_pixel"]) / 1e9
    engine_s = lr * stages["engine_cpu"]["ns_a_pixel"] / 1e9
    around_s = decode_s + encode_s + rest_s
    rows = []
    for gpus in GPUS:
        machines = -(-gpus // int(assumed["gpus_a_machine"]))
        rates = {
            "engine": gpus * 1e3 / assumed["gpu_ms_a_frame"],
            "processors (encode)": gpus * assumed["cores_a_gpu"] / around_s,
            "storage": assumed["storage_gb_s"] * 1e9 / moved,
            "network": machines * assumed["network_gb_s_a_machine"] * 1e9 / moved,
        }
        rows.append({"who": f"{gpus} GPU{'s' * (gpus > 1)}", **_limited(rates, frames, moved)})
    cores = assumed["cpu_cores_a_machine"]
    rates = {
        "engine": cores / (engine_s + around_s),
        "storage": assumed["storage_gb_s"] * 1e9 / moved,
        "network": assumed["network_gb_s_a_machine"] * 1e9 / moved,
    }
    rows.append({"who": f"{cores:.0f} cores, `{MODEL}`, no GPU", **_limited(rates, frames, moved)})
    return {
        "frames": frames,
        "in_tb": frames * bytes_in / 1e12,
        "out_tb": frames * bytes_out / 1e12,
        "moved_mb_a_frame": moved / 1e6,
        "cpu_ms_a_frame": {
            "decode": 1e3 * decode_s,
            "encode": 1e3 * encode_s,
            "join and hash": 1e3 * rest_s,
            f"engine ({MODEL})": 1e3 * engine_s,
        },
        "rows": rows,
    }


def _limited(rates: dict[str, float], frames: float, moved: float) -> dict[str, Any]:
    limit = min(rates, key=lambda name: rates[name])
    rate = rates[limit]
    return {
        "rates": rates,
        "limit": limit,
        "fps": rate,
        "hours": frames / rate / 3600,
        "gb_s": rate * moved / 1e9,
    }


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), help="The folder of real images and video."
)
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--estimate", "only", is_flag=True, help="Measure nothing.")
def main(data: Path | None, output: Path, repeats: int, only: bool) -> None:
    """Measure and write JSON; reckon."""
    if not only:
        if data is None:
            raise click.UsageError("measuring needs --data, the folder with video/colon_pcle.mpeg")
        video = data / "video" / "colon_pcle.mpeg"
        with tempfile.TemporaryDirectory() as name, redirect_stderr(StringIO()):
            measured = stages(video, Path(name))
            runs = main_runs(video, repeats, Path(name))
        result = {"benchmark": "archive", **environment(), "model": MODEL, "scale": SCALE}
        result |= {"stages": measured, "runs": runs, "assumed": ASSUMED}
        write_json(output, result, OWN)
        click.echo(f"wrote {output}")
    result = json.loads(output.read_text())
    click.echo(json.dumps(estimate(result["stages"], result["assumed"]), indent=2))


if __name__ == "__main__":
    main()
