"""`clesr upscale FOLDER --out FOLDER`: the run over an archive, from its options to its exit status."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import WHY, ClesrError, SinkError, UsageError, told_as
from clesr.engines.common.files import WriteRule, contains, write_json
from clesr.engines.common.folders import Folder
from clesr.engines.interpolation import METHODS
from clesr.engines.models.weights import find_model
from clesr.pipeline.cores.calibration import load_cores
from clesr.pipeline.settings import NO_CORES, UpscaleSettings, option_name
from clesr.pipeline.sources.registry import IMAGE_SUFFIXES, RECORDINGS
from clesr.pipeline.video.encoding import check_codec
from clesr.tools.archive.eta import Survey, following
from clesr.tools.archive.journal import Journal
from clesr.tools.archive.lock import locked
from clesr.tools.archive.messages import Executor
from clesr.tools.archive.runner import LISTED, Report, Runner
from clesr.tools.archive.settings import FOLDER, WORK, Settings
from clesr.tools.archive.tree import ArchiveTree, is_session
from clesr.tools.common.signals import INTERRUPTED, stopping_on_signals

log = logging.getLogger(__name__)


def upscale_tree(root: Path, out: Path, options: UpscaleSettings) -> int:
    """Do what is not done yet of the archive ``root`` into ``out``; the exit status.

    Raises UsageError for folders and settings that cannot work, ClesrError where nothing can go on or files are
    broken; what is finished then stays finished.
    """
    root, out = root.absolute(), out.absolute()  # workers have other working folders
    settings = _settings(options)
    if contains(out, root):
        raise UsageError(f"{out} holds the archive {root} itself; choose another folder behind --out")
    rule = WriteRule.of(options.overwrite, root, options.model, options.cores)
    rule.check_all(options.summary)
    with told_as(SinkError, f"the folder {out} cannot be made: {WHY}; choose another"):
        out.mkdir(parents=True, exist_ok=True)
        with Folder(out) as opened:
            opened.folder(*WORK, make=True).close()
    with locked(out / FOLDER / "lock"), closing(Journal(out)) as journal:
        if journal.damaged:
            log.warning(
                f"{journal.path}: {journal.damaged} damaged lines are passed over; their files are done again"
            )
        settings = _remembered(settings, journal)
        report, tree, stopped = _run(root, out, settings, journal, options)
    if tree.left_out:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in tree.left_out.most_common(8))
        log.warning(f"left out, no kind of image or video known here: {kinds}")
    for name, reason in report.listed:
        log.warning(f"broken: {name}: {reason}")
    log.info(f"{report.done} files up-scaled, {report.skipped} found finished, {report.broken} broken")
    if options.summary:
        write_json(Path(options.summary), report.as_json(), rule)
    if stopped:
        log.info("stopped: the same command goes on from here")
        return INTERRUPTED
    with Folder(out) as opened, opened.folder(FOLDER) as folder:
        folder.remove_tree(WORK[-1])
    if report.broken:
        which = "listed above" if report.broken <= LISTED else f"the first {LISTED} listed above"
        words = "file was" if report.broken == 1 else "files were"
        raise ClesrError(f"{report.broken} {words} not up-scaled whole, {which}; {journal.path} has them all")
    if not report.done + report.skipped:
        known = ", ".join((*RECORDINGS, *IMAGE_SUFFIXES))
        raise UsageError(f"the folder {root} holds nothing to up-scale; known are {known}")
    return 0


def _run(
    root: Path, out: Path, settings: Settings, journal: Journal, options: UpscaleSettings
) -> tuple[Report, ArchiveTree, bool]:
    with ExitStack() as stack:
        executor = stack.enter_context(closing(_executor(settings, out, options)))
        if settings.model == "auto":
            settings = _identified(replace(settings, model=executor.choose_model()))
            executor.configure(settings)
        _tell_replaced(journal, settings, root)
        journal.begin(settings.recorded(), settings.identity, chosen=options.model == "auto")
        tree = ArchiveTree(root, out)
        survey = stack.enter_context(closing(Survey(ArchiveTree(root, out))))
        runner = Runner(executor, tree, journal, settings, out, deep=options.reread)

        def stop() -> None:
            log.info("stopping: finished files are kept, and so are finished pieces of long ones")
            runner.stop()

        with stopping_on_signals(stop), following(runner.report, executor, survey):
            report = runner.run()
        return report, tree, runner.stopped


def _tell_replaced(journal: Journal, settings: Settings, root: Path) -> None:
    """Say how many results of earlier runs the run replaces, because it has other settings."""
    above = root.resolve().parent if is_session(root) else root  # the names of inputs begin here
    count = sum((above / name).exists() for name in journal.made_otherwise(settings.identity))
    if count:
        log.info(f"{count} results of earlier runs with other settings are made anew and replaced")


def _executor(settings: Settings, out: Path, options: UpscaleSettings) -> Executor:
    if not options.cluster:
        from clesr.tools.archive.worker import LocalExecutor

        return LocalExecutor(settings, out)
    from clesr.tools.archive.cluster import RayExecutor

    address, workers, gpus = options.cluster, options.workers, options.gpus
    return RayExecutor(settings, out, address=address, workers=workers, gpus=gpus)


def _settings(options: UpscaleSettings) -> Settings:
    for name in ("decode", "encode"):
        if getattr(options, name) == "gpu":
            raise UsageError(
                f"{option_name(name)} gpu is not for archives, which processors read and write on every machine; "
                "leave it out"
            )
    codec = "ffv1" if options.codec == "auto" else options.codec
    check_codec(codec, ".mkv")
    named: dict[str, Any] = {each.name: getattr(options, each.name) for each in fields(options)}
    named |= {"codec": codec, "decode": "cpu", "encode": "cpu"}
    if options.cores not in (None, NO_CORES):
        named["cores"] = str(Path(options.cores).absolute())
        named["cores_sha256"] = load_cores(options.cores).sha256
    return _identified(Settings(**named))


def _identified(settings: Settings) -> Settings:
    """With the identity of the model; ``auto`` has none yet."""
    model = settings.model
    if model == "auto" or model in METHODS:
        return settings
    found = find_model(model, settings.scale, besides=("auto", *METHODS))
    where = str(Path(model).absolute()) if Path(model).suffix else model
    return replace(settings, model=where, model_sha256=found.sha256)


def _remembered(settings: Settings, journal: Journal) -> Settings:
    """``auto`` stays what it was in earlier runs, so that an archive is done by one model."""
    model = journal.chosen.get(settings.scale)
    if settings.model != "auto" or model is None:
        return settings
    log.info(f"model {model}, as in the run before")
    return _identified(replace(settings, model=model))
