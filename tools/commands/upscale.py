"""`clesr upscale`: files and folders to files, every frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rich_click as click

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.common.files import WriteRule, write_json
from clesr.pipeline.frame import Outcome
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.prepare import Prepare, Roi, Window
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.pipeline.sinks.stills import SUFFIXES as STILLS
from clesr.pipeline.sinks.stills import StillFile
from clesr.pipeline.sinks.video import VideoFile
from clesr.pipeline.sources.registry import IMAGE_SUFFIXES, TIFF_SUFFIXES, open_source
from clesr.pipeline.status import Summary
from clesr.pipeline.video.hardware_decoding import Decoding
from clesr.pipeline.video.hardware_encoding import Encode
from clesr.tools.archive.command import INTERRUPTED, archive_options, upscale_tree
from clesr.tools.archive.settings import PATIENCE_FPS
from clesr.tools.console import following, print_summary, tell
from clesr.tools.options import (
    codec_option,
    consistent_option,
    decode_option,
    encode_option,
    engine_options,
    general_options,
    input_options,
    overwrite_option,
)
from clesr.tools.stream import EngineOpener, draining_on_signals

OUTPUTS = (".mkv", ".mp4", ".mov", ".avi", *STILLS)

MODEL_HELP = (
    "densenet, fast, bicubic, bilinear, nearest, a .safetensors file, or auto: densenet where a short trial does "
    f"{PATIENCE_FPS:g} frames/s, else fast."
)


@dataclass(frozen=True, slots=True)
class Job:
    """One input and the file that comes of it."""

    source: Path
    target: Path
    first: bool = True

    def summary_rule(self, rule: WriteRule) -> WriteRule:
        """The summary of each input takes the place of the one before."""
        return rule if self.first else replace(rule, overwrite=True)


@click.command()
@click.option_panel("Input", options=["--roi", "--window", "--decode"])
@click.option_panel(
    "Up-scaling",
    options=["--scale", "--model", "--engine", "--device", "--precision", "--threads", "--consistent"],
)
@click.option_panel("Output", options=["--output", "--overwrite", "--codec", "--encode", "--summary"])
@click.option_panel("Archive", options=["--cluster", "--workers", "--gpus", "--piece", "--reread"])
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--output",
    "--out",
    "-o",
    "output",
    required=True,
    metavar="FILE|FOLDER",
    help="A file for one input, a folder for more.",
)
@overwrite_option()
@codec_option()
@encode_option()
@decode_option()
@input_options()
@engine_options(MODEL_HELP)
@consistent_option()
@click.option("--frames", type=int, metavar="N", help="Only the first N frames of each input.")
@click.option("--summary", metavar="FILE", help="Write the closing figures of the last input as JSON.")
@archive_options()
@general_options()
@click.pass_context
def upscale(context: click.RichContext, /, inputs: tuple[str, ...], output: str, **options: Any) -> None:
    """Up-scale recorded files: every frame, at its own time.

    INPUT is a video, a Cellvizio .mkt file, a TIFF stack, an image, or a folder of these. With a file name behind
    -o a folder of images becomes one video. A file gets its name only when it is whole; after Ctrl-C what was
    done so far is NAME.partial.SUFFIX.

    A folder with a folder behind -o is an archive: its tree of recordings and session folders is mirrored, as
    lossless FFV1 in .mkv by default. The same command goes on where it was stopped; what is finished stands in
    archive.jsonl there. `--cluster` shares the work among machines that see both folders under the same paths.

    Examples:

    - `clesr upscale recording.mpeg -o sr.mkv`
    - `clesr upscale archive/ -o sr/ --scale 2 --model densenet`
    - `clesr upscale archive/ -o sr/ --cluster local`
    - `clesr upscale still.png -o still_x8.png --scale 8`
    """
    paths = [Path(name) for name in inputs]
    if is_archive(paths, Path(output)):
        context.exit(upscale_tree(paths[0], Path(output), options))
    if options["cluster"]:
        raise UsageError(
            f"--cluster is for one folder of recordings, not for {', '.join(inputs)}; give the folder"
        )
    jobs = plan(paths, Path(output))
    rule = WriteRule.of(options["overwrite"], *inputs, options["model"])
    rule.check_all(*(job.target for job in jobs), options["summary"])
    roi = Roi.parse(options["roi"]) if options["roi"] else None
    window = Window.parse(options["window"])
    limits = Limits(options["frames"], None)
    opener = EngineOpener(
        scale=int(options["scale"]),
        model=options["model"],
        engine=options["engine"],
        device=options["device"],
        precision=options["precision"],
        threads=options["threads"],
        fps=PATIENCE_FPS,
    )
    broken: list[str] = []
    for index, job in enumerate(jobs, 1):
        label = job.source.name if len(jobs) == 1 else f"{index}/{len(jobs)} {job.source.name}"
        try:
            interrupted, summary = _run(
                job, label, opener, Prepare(roi=roi, window=window), limits, options, rule
            )
        except UsageError:
            raise
        except ClesrError as error:
            if len(jobs) == 1:
                raise
            tell(f"{job.source}: {error}")
            broken.append(str(job.source))
            continue
        if interrupted:
            context.exit(INTERRUPTED)
        incomplete = [f"{n} {o}" for o, n in summary.outcomes.items() if n and o is not Outcome.UPSCALED]
        if incomplete:
            broken.append(f"{job.source} ({', '.join(incomplete)})")
    if broken:
        raise ClesrError(f"{len(broken)} of {len(jobs)} inputs were not up-scaled whole: {'; '.join(broken)}")


def is_archive(inputs: list[Path], output: Path) -> bool:
    """Whether a folder is to be mirrored in a folder; raises UsageError where other inputs stand beside it."""
    if output.suffix.lower() in OUTPUTS and not output.is_dir():
        return False
    folders = [path for path in inputs if path.is_dir()]
    if folders and len(inputs) > 1:
        raise UsageError(f"the folder {folders[0]} cannot be one input of {len(inputs)}; give it alone")
    return bool(folders)


def plan(inputs: list[Path], output: Path) -> list[Job]:
    """What is to be made of ``inputs``; raises UsageError where the output does not fit them."""
    if output.suffix.lower() in OUTPUTS and not output.is_dir():
        if len(inputs) > 1:
            raise UsageError(
                f"{len(inputs)} inputs do not go into one file {output}; give a folder behind -o"
            )
        return [Job(inputs[0], output)]
    if output.suffix and not output.is_dir():
        raise UsageError(
            f"{output} is neither a folder nor a file of a kind that is written ({', '.join(OUTPUTS)})"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClesrError(f"the folder {output} cannot be made: {error.strerror}") from error
    taken: set[Path] = set()
    jobs: list[Job] = []
    for path in inputs:
        suffix = _target_suffix(path)
        target = output / (path.stem + suffix)
        if target in taken or (target.exists() and path.exists() and target.samefile(path)):
            target = output / (path.name + suffix)
        taken.add(target)
        jobs.append(Job(path, target, first=not jobs))
    return jobs


def _target_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return ".tif"
    return ".png" if suffix in IMAGE_SUFFIXES else ".mkv"


def _run(
    job: Job,
    label: str,
    opener: EngineOpener,
    prepare: Prepare,
    limits: Limits,
    options: dict[str, Any],
    rule: WriteRule,
) -> tuple[bool, Summary]:
    """Up-scale one input; whether it was interrupted, and what came of it."""
    source = open_source(str(job.source), pace="max", count=True, decoding=Decoding(options["decode"], tell))
    try:
        sink = _open_target(job.target, options["codec"], options["encode"], source.info.fps, rule)
    except BaseException:
        source.close()
        raise

    pipeline = Pipeline(
        source,
        opener,
        [sink],
        scale=opener.scale,
        prepare=prepare,
        consistent=options["consistent"],
        limits=limits,
        tell=tell,
        on_end=sink.complete,
    )
    if limits.frames is not None:
        sink.complete()
    total = min(filter(None, (limits.frames, source.info.frames)), default=None)
    try:
        with draining_on_signals(pipeline) as signals, following({label: (pipeline.status, total)}):
            pipeline.run()
    finally:
        summary = pipeline.summary()
        if summary.captured:
            print_summary(summary)
        if options["summary"]:
            write_json(Path(options["summary"]), summary.as_json(), job.summary_rule(rule))
    return bool(signals), summary


def _open_target(
    path: Path, codec: str, encode: str, fps: float | None, rule: WriteRule
) -> VideoFile | StillFile:
    if path.suffix.lower() in STILLS:
        return StillFile(path, rule)
    options = SinkOptions(codec, fps=fps, partial_ok=False, encode=Encode(encode, tell), rule=rule)
    return VideoFile(path, options)
