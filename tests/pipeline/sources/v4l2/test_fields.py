"""Whole images of the fields of interlaced cameras."""

from __future__ import annotations

import numpy as np
import pytest
from linuxpy.video import device as v4l2  # type: ignore[import-untyped]
from recordings import drifting, noise

from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.sources.v4l2.fields import Captured, Fields, WholeFrames

FIELD = v4l2.Field
IMAGE = noise(1, (8, 6))[0]
UPPER, LOWER = np.ascontiguousarray(IMAGE[::2]), np.ascontiguousarray(IMAGE[1::2])


def captured(image: Image | None, sequence: int = 0, stamp: int = 0, reason: str = "") -> Captured:
    return Captured(sequence, stamp, image, reason)


def image_of(given: Captured | None) -> Image:
    assert given is not None
    assert given.image is not None
    return given.image


@pytest.mark.parametrize(
    ("field", "lines", "first"),
    [
        (FIELD.NONE, 576, None), (FIELD.TOP, 288, None), (FIELD.INTERLACED_TB, 480, "top"),
        (FIELD.INTERLACED_BT, 576, "bottom"), (FIELD.INTERLACED, 480, "bottom"), (FIELD.INTERLACED, 576, "top"),
        (FIELD.SEQ_BT, 576, "bottom"), (FIELD.ALTERNATE, 240, "bottom"), (FIELD.ALTERNATE, 288, "top"),
    ],
)  # fmt: skip
def test_what_an_order_of_fields_means(field: int, lines: int, first: str | None) -> None:
    fields = Fields(field, lines)
    assert fields.first == first
    assert fields.lines == (2 * lines if field == FIELD.ALTERNATE else lines)
    assert fields.single is (field == FIELD.TOP)


def test_fields_one_behind_the_other_are_woven() -> None:
    for field, halves in ((FIELD.SEQ_TB, (UPPER, LOWER)), (FIELD.SEQ_BT, (LOWER, UPPER))):
        given = Fields(field, 8).put(captured(np.concatenate(halves)), field)
        np.testing.assert_array_equal(image_of(given), IMAGE)
    whole = captured(IMAGE)
    assert Fields(FIELD.INTERLACED, 8).put(whole, FIELD.INTERLACED) is whole


def test_alternate_fields_are_woven_by_their_number() -> None:
    fields = Fields(FIELD.ALTERNATE, 4)
    for sequence in range(3):
        order = [(FIELD.TOP, UPPER), (FIELD.BOTTOM, LOWER)]
        if sequence == 2:
            order.reverse()
        assert fields.put(captured(order[0][1], sequence, 10), order[0][0]) is None
        given = fields.put(captured(order[1][1], sequence, 20), order[1][0])
        np.testing.assert_array_equal(image_of(given), IMAGE)
        assert given is not None
        assert (given.sequence, given.stamp_ns) == (sequence, 10)


def test_a_field_that_is_missing_or_damaged_makes_one_damaged_frame() -> None:
    fields = Fields(FIELD.ALTERNATE, 4)
    assert fields.put(captured(UPPER, 0), FIELD.TOP) is None
    lone = fields.put(captured(UPPER, 1), FIELD.TOP)
    assert lone is not None
    assert (lone.sequence, lone.image, lone.reason) == (0, None, "one of its two fields is missing")
    damaged = fields.put(captured(None, 1, reason="short"), FIELD.BOTTOM)
    assert damaged is not None
    assert (damaged.sequence, damaged.image, damaged.reason) == (1, None, "short")
    assert fields.put(captured(UPPER, 2), FIELD.TOP) is None
    np.testing.assert_array_equal(image_of(fields.put(captured(LOWER, 2), FIELD.BOTTOM)), IMAGE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_deinterlaced_frames_keep_numbers_and_times(dtype: type[np.uint8 | np.uint16]) -> None:
    still = drifting(1, (64, 96))[0]
    scene: Image = still if dtype == np.uint8 else np.left_shift(still.astype(np.uint16), 8, dtype=np.uint16)
    moments = [np.roll(scene, 3 * step, axis=1) for step in range(12)]
    filtered = WholeFrames("top")
    given: list[Frame] = []
    for number in range(6):
        image = moments[2 * number + 1].copy()
        image[::2] = moments[2 * number][::2]
        given += filtered.push(Frame(image, number, 100 * number))
        assert len(given) == number
    given += filtered.flush()
    assert [(frame.number, frame.time_ns) for frame in given] == [(n, 100 * n) for n in range(6)]
    inner = np.s_[8:-8, 8:-8]
    for frame, moment in zip(given, moments[::2], strict=True):
        assert frame.image.dtype == dtype
        assert np.abs(frame.image[inner].astype(int) - moment[inner]).mean() < 0.02 * np.iinfo(dtype).max
    assert not list(filtered.flush())
