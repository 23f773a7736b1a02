"""Files to files, every frame: what `clesr upscale` does where its input is no archive."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from clesr.engines.common.errors import WHY, ClesrError, UsageError, on_error, told_as
from clesr.engines.common.files import WriteRule
from clesr.engines.opener import EngineOpener
from clesr.pipeline.frame import Outcome
from clesr.pipeline.settings import PATIENCE_FPS, UpscaleSettings
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.pipeline.sinks.stills import SUFFIXES as STILLS
from clesr.pipeline.sinks.stills import StillFile
from clesr.pipeline.sinks.video import VideoFile
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import IMAGE_SUFFIXES, open_source
from clesr.pipeline.status import Summary
from clesr.tools.archive.tree import result_suffix
from clesr.tools.common.runs import run_recorded

log = logging.getLogger(__name__)
OUTPUTS = (".mkv", ".mp4", ".mov", ".avi", *STILLS)


@dataclass(frozen=True, slots=True)
class Job:
    """One input and the file that comes of it."""

    source: Path
    target: Path


def upscale_files(inputs: list[Path], settings: UpscaleSettings) -> bool:
    """Up-scale each of ``inputs`` to what ``settings.output`` makes of its name; whether that was interrupted.

    Raises UsageError for what does not fit together, ClesrError where an input was not up-scaled whole, after the
    others.
    """
    jobs = plan(inputs, Path(settings.output))
    rule = WriteRule.of(settings.overwrite, *map(str, inputs), settings.model, settings.cores)
    rule.check_all(*(job.target for job in jobs), settings.summary)
    stills = all(job.source.suffix.lower() in IMAGE_SUFFIXES and job.target.suffix in STILLS for job in jobs)
    opener = EngineOpener.of(settings, None if stills else PATIENCE_FPS)  # stills have no rate to hold
    broken: list[str] = []
    for index, job in enumerate(jobs):
        label = job.source.name if len(jobs) == 1 else f"{index + 1}/{len(jobs)} {job.source.name}"
        try:
            interrupted, summary = _run(job, label, opener, settings, rule, first=index == 0)
        except UsageError:
            raise
        except ClesrError as error:
            if len(jobs) == 1:
                raise
            log.error(f"{job.source}: {error}")
            broken.append(str(job.source))
            continue
        if interrupted:
            return True
        incomplete = [f"{n} {o}" for o, n in summary.outcomes.items() if n and o is not Outcome.UPSCALED]
        if incomplete:
            broken.append(f"{job.source} ({', '.join(incomplete)})")
    if broken:
        raise ClesrError(f"{len(broken)} of {len(jobs)} inputs were not up-scaled whole: {'; '.join(broken)}")
    return False


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
    with told_as(ClesrError, f"the folder {output} cannot be made: {WHY}"):
        output.mkdir(parents=True, exist_ok=True)
    taken: set[Path] = set()
    jobs: list[Job] = []
    for path in inputs:
        suffix = result_suffix(path)
        target = output / (path.stem + suffix)
        if target in taken or (target.exists() and path.exists() and target.samefile(path)):
            target = output / (path.name + suffix)
        taken.add(target)
        jobs.append(Job(path, target))
    return jobs


def _run(
    job: Job, label: str, opener: EngineOpener, settings: UpscaleSettings, rule: WriteRule, *, first: bool
) -> tuple[bool, Summary]:
    """Up-scale one input; whether it was interrupted, and what came of it."""
    source = open_source(str(job.source), pace="max", count=True, **settings.reading())
    with on_error(source.close):
        sink = _open_target(job.target, settings, source.info, rule)
    if settings.frames is not None:
        sink.complete()
    rule = rule if first else replace(rule, overwrite=True)
    return run_recorded(
        settings,
        source,
        opener,
        [sink],
        label,
        frames=settings.frames,
        file=settings.summary,
        rule=rule,
        on_end=sink.complete,
    )


def _open_target(
    path: Path, settings: UpscaleSettings, source: SourceInfo, rule: WriteRule
) -> VideoFile | StillFile:
    if path.suffix.lower() in STILLS:
        return StillFile(path, rule, pixel_aspect=source.pixel_aspect)
    options = SinkOptions(
        codec=settings.codec,
        fps=source.fps,
        partial_ok=False,
        encode=settings.encode,
        rule=rule,
        pixel_aspect=source.pixel_aspect,
    )
    return VideoFile(path, options)
