"""PNG stills with a scale bar below the image."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import numbered
from clesr.engines.common.png import png_bytes
from clesr.tools.export.burn_in import with_scale_bar
from clesr.tools.export.clip import Clip
from clesr.tools.export.files import Files


class PngExporter:
    """Each image as a PNG of 8 or 16 bits, NAME.000012.png by the frame's number where the user named other than one
    ``frame``. The pixels stay as they are; the scale bar, where the size of a pixel is known, is in a strip below them.
    """

    what = "sr"

    def __init__(self, *, frame: Collection[int] = (), every: float | None = None) -> None:
        if not frame and every is None:
            raise UsageError("say which stills: --frame N, or --every S for one every S seconds")
        self.named_by_frame = len(frame) != 1

    def write(self, clip: Clip, path: Path, files: Files) -> list[str]:
        said = []
        for still in clip.stills:
            final = numbered(path, f"{still.number:06d}") if self.named_by_frame else path
            image = still.image if clip.pixel_um is None else with_scale_bar(still.image, clip.pixel_um)
            files.begin(final).write_bytes(png_bytes(image))
            mark = ", bicubic only" if still.bicubic else ""
            said.append(f"{final}: frame {still.number} at {still.time_ns / 1e9:.3f} s{mark}")
        return said
