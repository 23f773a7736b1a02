"""One frame of a running stream as DICOM: the raw image, and the up-scaled one that refers to it."""

from __future__ import annotations

from pathlib import Path

from clesr.pipeline.frame import Image, Outcome, Result
from clesr.pipeline.source import SourceInfo
from clesr.tools.export.clip import Clip, Derivation, Kind, Still
from clesr.tools.export.files import all_or_none
from clesr.tools.export.registry import exporters


def write_dicom(stem: Path, result: Result, source: SourceInfo, pixel_um: float | None) -> list[Path]:
    """Write ``STEM.raw.dcm`` and ``STEM.sr.dcm``, anonymous and without a date; the files. Raises ClesrError."""
    exporter = exporters["dcm"]()
    failed, engine = result.outcome is Outcome.FAILED, result.engine
    made_by = Derivation(
        result.scale, result.model, engine.model_hash if engine else "", engine.engine if engine else ""
    )

    def clip(kind: Kind, image: Image) -> Clip:
        sr = kind == "sr"
        return Clip(
            kind=kind,
            stills=[Still(result.frame.number, 0, image, bicubic=sr and failed)],
            total=1,
            fps=source.fps,
            pixel_aspect=source.pixel_aspect,
            pixel_um=pixel_um / result.scale if pixel_um is not None and sr else pixel_um,
            derivation=made_by if sr else None,
            synthetic=source.address.startswith("demo:"),
        )

    with all_or_none() as files:
        images: dict[Kind, Image] = {"raw": result.frame.image, "sr": result.image}
        for kind, image in images.items():
            exporter.write(clip(kind, image), stem.with_name(f"{stem.name}.{kind}.dcm"), files)
    return [file.final for file in files.begun]
