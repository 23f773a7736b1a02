"""Videos in DICOM files: MPEG-2, H.264 and HEVC as they are encapsulated (PS3.5, 8.2.5 to 8.2.8)."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from clesr.engines.common.errors import SourceError, on_error
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.sources.images.dicom_file import DicomFile
from clesr.pipeline.sources.images.times import FrameTimes
from clesr.pipeline.sources.registry import SourceOptions
from clesr.pipeline.sources.video.file import VideoSource

_AT_ONCE = 1 << 20


class DicomVideo:
    """The frames of the video in ``file``, which is read whole and closed: a decoder gets it as a file in memory. Their
    times are ``times``, and the width of a pixel over its height ``aspect``, where the DICOM file states them, else the
    video's. Raises SourceError."""

    def __init__(
        self,
        path: Path,
        file: DicomFile,
        times: FrameTimes | None,
        options: SourceOptions,
        aspect: Fraction | None,
    ) -> None:
        self._memory = os.memfd_create("clesr-dicom", os.MFD_CLOEXEC)
        with on_error(self._forget):
            for start, length in file.fragments()[1]:
                for at in range(start, start + length, _AT_ONCE):
                    os.write(self._memory, file.read(at, min(_AT_ONCE, start + length - at)))
            place = f"/proc/self/fd/{self._memory}"
            try:
                self._video = VideoSource(place, options, name=str(path))
            except SourceError as error:
                raise SourceError(f"{path}: its video: {str(error).replace(place, 'it')}") from error
        self._times = times
        self.info = replace(self._video.info, pixel_aspect=aspect or self._video.info.pixel_aspect)
        if times is not None:
            self.info = replace(self.info, fps=times.fps, seconds=None)  # the video's own seconds are others

    def read(self, timeout: float) -> Frame | Corrupt | None:
        """The next frame; ``timeout`` does not matter, a file never waits. Raises EndOfSource."""
        item = self._video.read(timeout)
        if self._times is None or not isinstance(item, Frame) or item.number >= len(self._times.pts):
            return item
        return replace(item, pts=self._times.pts[item.number], time_base=self._times.base)

    def close(self) -> None:
        self._video.close()
        self._forget()

    def _forget(self) -> None:
        memory, self._memory = self._memory, -1
        if memory >= 0:
            os.close(memory)
