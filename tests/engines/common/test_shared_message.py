from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clesr.engines.common.shared_message import SharedMessage
from clesr.pipeline.frame import Frame, Outcome, Result, Times


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_messages_of_any_size_come_through_whole(dtype: type) -> None:
    writer = SharedMessage()
    reader = SharedMessage(os.dup(writer.descriptor))
    for side in (3, 200, 7, 513):
        image: Any = np.arange(side * side, dtype=dtype).reshape(side, side)
        message: Any = {"words": "x" * side, "image": image, "turned": image.T, "nothing": None}
        got = reader.get(writer.put(message))
        assert got["words"] == "x" * side
        np.testing.assert_array_equal(got["image"], image)
        np.testing.assert_array_equal(got["turned"], image.T)
        assert got["image"].ctypes.data % 64 == 0
    writer.close()
    reader.close()


def test_a_result_comes_through_with_all_that_is_drawn_of_it() -> None:
    image = np.full((20, 30), 7, np.uint8)
    result = Result(
        Frame(image, 5, 1), image, image.repeat(2, 0), Outcome.UPSCALED, 2, Times(1, 2, 3, 4), "fast"
    )
    slot = SharedMessage()
    reprojected, _ = slot.get(slot.put((result, None)))
    assert (reprojected.outcome, reprojected.scale, reprojected.frame.number) == (
        result.outcome,
        result.scale,
        5,
    )
    np.testing.assert_array_equal(reprojected.image, result.image)
    assert reprojected.image.base is not None, "not copied"
    del reprojected
    slot.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc, which is Linux")
def test_closing_leaves_no_handle() -> None:
    before = os.listdir("/proc/self/fd")
    slot = SharedMessage()
    slot.put(b"something")
    slot.close()
    slot.close()
    assert os.listdir("/proc/self/fd") == before
