"""The small picture of a map beside the live view."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
from probe import SIDE, along, disc, seen, tissue
from waits import joined

from clesr.engines.common.image import Image
from clesr.pipeline.mosaic.mosaic import Mosaic
from clesr.pipeline.mosaic.tissue_map import TissueMap

WAY = [(6.0 * n - 60, 3.0 * n - 30) for n in range(16)]


def drawn(dtype: type = np.uint8) -> tuple[Mosaic, TissueMap]:
    maps: list[TissueMap] = []
    mosaic = Mosaic(maps.append, limit_mb=64)
    for number, image in enumerate(along(tissue(), WAY, 0, dtype)):
        mosaic.add(image, number, number / 12, disc())
    mosaic.save()
    return mosaic, maps[0]


def test_before_the_first_frame_it_is_black() -> None:
    shown = Mosaic(lambda each: None, limit_mb=64).preview(40, 30)
    assert (shown.shape, shown.dtype, int(shown.max())) == ((30, 40), np.dtype(np.uint8), 0)


def test_it_has_the_size_asked_for() -> None:
    mosaic, _ = drawn()
    for width, height in ((400, 300), (60, 60), (37, 200), (3, 2), (1, 1)):
        shown = mosaic.preview(width, height)
        assert (shown.shape, shown.dtype) == ((height, width), np.dtype(np.uint8))
        assert shown.max() > 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_it_shows_the_map_where_it_lies_and_outlines_the_newest_frame(dtype: type) -> None:
    mosaic, made = drawn(dtype)
    box, ratio = made.canvas.box, 1.5
    assert box is not None
    width, height = box.right - box.left, box.bottom - box.top
    assert (width, height) == pytest.approx((SIDE + 90, SIDE + 45), abs=7)
    shown = mosaic.preview(round(ratio * width), round(ratio * height))
    mean, weight = made.canvas.read(box.left, box.top, (height, width))
    whole = cv2.resize(mean, shown.shape[::-1], interpolation=cv2.INTER_LINEAR)
    sure = cv2.resize(weight, shown.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.1
    assert np.corrcoef(shown[sure], whole[sure])[0, 1] > 0.85
    left, top = (round(ratio * (at - edge)) for at, edge in zip(made.outline()[0], box[:2], strict=True))
    assert (shown[top + 2 : -2, left - 2 : left + 4].max(axis=1) > 100).mean() > 0.95
    assert shown[:20, -20:].max() == 0, "nothing was seen there"


def test_it_may_be_asked_for_while_frames_are_drawn() -> None:
    mosaic = Mosaic(lambda each: None, limit_mb=64)
    shown: list[Image] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            shown.append(mosaic.preview(64, 48))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(12):
            scene = tissue(number // 6)
            mosaic.add(seen(scene, (number % 6, 0)), number, number / 12, disc())
        mosaic.end()
    finally:
        done.set()
        joined(watcher)
    assert all(each.shape == (48, 64) for each in shown)
    assert mosaic.preview(64, 48).max() == 0, "it has ended"
