"""A recording, its images, and an archive."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from orthanc_server import Orthanc, running_orthanc
from recordings import noise

from clesr.pipeline.frame import Image


@pytest.fixture(autouse=True)
def _sockets_end_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def images() -> list[Image]:
    return noise(5, (31, 42), np.uint8)


@pytest.fixture
def recording(images: list[Image], tmp_path: Path) -> Path:
    path = tmp_path / "recording.tif"
    tifffile.imwrite(path, np.array(images), photometric="minisblack")
    return path


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path) as made:
        yield made
