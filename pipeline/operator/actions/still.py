"""Stills."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import WHY, ClesrError, UsageError, told_as
from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.frame import Result
from clesr.pipeline.operator.operator import NUMBER, Operator, instead
from clesr.pipeline.operator.still import Still16, known_of

Region = tuple[int, int, int, int]


def _seen(operator: Operator, dicom: bool, number: int) -> tuple[Result, Region | None]:
    return operator.look(number), operator.controls.view.region


def _still(
    operator: Operator, seen: tuple[Result, Region | None], dicom: bool, number: int
) -> Mapping[str, Any]:
    (result, region), pipeline = seen, operator.pipeline
    known = {
        **known_of(result, pipeline.clock.now_ns()),
        "pixel_um": pipeline.pixel_um,
        "region": region,
        "settings": {**operator.recorder.settings.settings, **result.settings},
        "status": pipeline.status(),
    }
    stem = operator.folder / operator.recordings.dated("still")
    files = Still16(result, known).write(
        stem.with_name(f"{stem.name}-{result.frame.number:06}"),
        partial(_dicom, operator, result) if dicom else lambda _stem: [],
    )
    return {
        "said": f"{instead(number, result)}frame {result.frame.number}: {files[0]} and {len(files) - 1} more",
        "files": [str(file) for file in files],
        "number": result.frame.number,
    }


def _dicom(operator: Operator, result: Result, stem: Path) -> list[Path]:
    pipeline = operator.pipeline
    with told_as(ClesrError, f"the PNGs {stem}.* are written, but no DICOM: {WHY}", ClesrError):
        if operator.write_dicom is None:
            raise UsageError("this program writes no DICOM stills; clesr-live does")
        return operator.write_dicom(stem, result, pipeline.source.info, pipeline.pixel_um)


STILL: Action[Operator] = Action(
    "still",
    "Write the image that is seen: raw, up-scaled and bicubic as 16-bit PNG, with all that is known of it.",
    _still,
    (Argument("dicom", bool, "whether to write it as DICOM, too", False), NUMBER),
    key="s",
    group="Recording",
    seen=_seen,
)
