"""What is left on the disk where a still image file cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from clesr.pipeline.frame import Result
from clesr.pipeline.sinks.stills import StillFile


@pytest.mark.parametrize("method", ["__init__", "write", "close"])
@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_failing_writer_leaves_no_hidden_file(
    make_result: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: type[Exception],
) -> None:
    close = tifffile.TiffWriter.close

    def fail(writer: tifffile.TiffWriter, *_: object, **__: object) -> None:
        if method == "close":
            close(writer)
        raise error("no")

    monkeypatch.setattr(tifffile.TiffWriter, method, fail)
    with pytest.raises(Exception, match="no"):
        _write(StillFile(tmp_path / "a.ome.tif"), make_result)
    assert not list(tmp_path.iterdir())


def _write(sink: StillFile, make_result: Callable[..., Result]) -> None:
    try:
        sink.write(make_result(np.zeros((4, 4), np.uint8), 0))
    finally:
        sink.close()
