"""The operator's hand on one running stream: what actions act on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.common.numbers import shortened
from clesr.pipeline.controls import Action, Argument, Controls
from clesr.pipeline.frame import Result
from clesr.pipeline.operator.registry import all_actions
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.settings import LiveSettings
from clesr.pipeline.sinks.mosaic import MosaicFile
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.stats import RecentResults

DicomWriter = Callable[[Path, Result, SourceInfo, float | None], list[Path]]
"""Writes a still as DICOM objects whose names begin as the path; which files. Beside the result: its source, and the
micrometres of a captured pixel."""

NUMBER = Argument(
    "number",
    int,
    "of the frame that is meant, as a view shows it; -1 for the newest, or the frozen one",
    -1,
    minimum=-1,
    maximum=2**63 - 1,
)
"""For actions on an image: a view shows one that is a little older than the newest."""


def checked_name(name: str) -> str:
    """``name``, where it is one of a new file or folder, and no path: whoever may give orders may not choose a place on
    the disk. Raises UsageError."""
    if name.startswith(".") or "/" in name or not name.isprintable() or len(name) > 100:
        raise UsageError(
            f"{shortened(name)} is no name; give at most 100 characters without / and without a point at the begin"
        )
    return name


class Recordings:
    """Begins and ends the recordings of a stream, each in a folder of its own: ``first``, then ``first-2`` and so on;
    without ``first`` named by the time and ``stream``. Never waits for the disk."""

    def __init__(self, pipeline: Pipeline, first: str | None, stream: str | None = None) -> None:
        self._pipeline, self._stream = pipeline, stream
        self._first = Path(first) if first is not None else None

    @property
    def going(self) -> bool:
        """Whether one goes on."""
        recorder = self._pipeline.recorder
        return recorder is not None and recorder.recording

    def toggle(self) -> None:
        """End the recording, or begin one. Any thread."""
        if self.going:
            self._pipeline.stop_recording()
        elif not self._pipeline.ending:
            self.begin()

    def begin(self, name: str = "") -> Future[Path]:
        """Begin a recording in the folder ``name`` beside the others, or in the next one; where something is in it, in
        ``FOLDER-2`` and so on. Which folder it is, a SessionError where none can be made. Any thread. Raises UsageError
        for what is no name of a folder."""
        return self._pipeline.start_recording(self.folder(name), or_next=True)

    def folder(self, name: str = "") -> Path:
        """Where the next recording goes, or one that is called ``name``. Raises UsageError."""
        if name:
            return (self._first.parent if self._first is not None else Path()) / checked_name(name)
        return self._first or Path(self.dated())

    def dated(self, what: str = "") -> str:
        """A name of the time, the stream, and ``what``."""
        parts = ("clesr", what, datetime.now().strftime("%Y%m%d-%H%M%S"), self._stream)
        return "-".join(part for part in parts if part)


class Operator:
    """One stream in an operator's hands. ``controls`` are the actions on it, ``newest`` the last result that was made,
    ``seen`` the one that is looked at: the newest, or what was frozen. ``others`` are those of the same run.

    ``folder`` is where stills go, ``stream`` the name of one of several streams, ``actions`` are all that there are
    where none are given, ``maps`` joins the frames into maps, ``write_dicom`` writes stills as DICOM. Raises UsageError
    where the keys of ``settings`` cannot be.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: LiveSettings,
        folder: Path = Path(),
        *,
        stream: str = "",
        actions: Iterable[Action[Operator]] | None = None,
        maps: MosaicFile | None = None,
        write_dicom: DicomWriter | None = None,
    ) -> None:
        self.pipeline, self.settings, self.folder = pipeline, settings, folder
        self.stream, self.maps, self.write_dicom = stream, maps, write_dicom
        self.others: Sequence[Operator] = ()
        self._recent = pipeline.stats.recent = RecentResults()
        self.recordings = Recordings(pipeline, settings.record, stream)
        self.controls: Controls[Operator] = Controls(
            self, actions or all_actions(), dict(settings.key), clock=pipeline.clock
        )
        self.controls.change(overlay=settings.overlay is not None)
        if maps is not None:
            self.controls.map = maps.mosaic.preview

    def close(self) -> None:
        """The run has ended."""
        self.controls.close()
        self.others = ()

    @property
    def newest(self) -> Result | None:
        return self.pipeline.stats.newest

    @property
    def seen(self) -> Result | None:
        return self.controls.shown or self.newest

    def look(self, number: int = NUMBER.default) -> Result:
        """The image of the frame ``number``, where it is kept; else what is looked at. Raises ClesrError where no image
        has come yet."""
        seen = self.seen
        if seen is None:
            raise ClesrError("there is no image yet; try again when one is there")
        if number in (NUMBER.default, seen.frame.number):
            return seen
        return self._recent.find(number) or seen

    @property
    def recorder(self) -> Recorder:
        """Raises ClesrError where the run has none."""
        recorder = self.pipeline.recorder
        if not isinstance(recorder, Recorder):
            raise ClesrError("this run has no recorder")
        return recorder


def switch(field: str, words: str) -> Callable[[Operator], Mapping[str, Any]]:
    """Puts ``field`` of the view on or off; ``words`` name it."""

    def switched(operator: Operator) -> Mapping[str, Any]:
        on = not getattr(operator.controls.view, field)
        operator.controls.change(**{field: on})
        return {"said": f"{words} {'on' if on else 'off'}", "on": on}

    return switched


def instead(number: int, result: Result) -> str:
    """What is said where ``result`` stands for the frame ``number``, which is not kept; "" where it is that one."""
    if number in (NUMBER.default, result.frame.number):
        return ""
    return f"frame {number} is no longer kept, this is frame {result.frame.number}; "
