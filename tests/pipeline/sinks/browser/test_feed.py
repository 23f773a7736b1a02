"""The newest picture of a stream, encoded once for all who wish the same."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from functools import partial

import cv2
import numpy as np
import pytest
from browser_view import decoded
from support import ManualClock, until

from clesr.pipeline.display.pace import DrawingPace
from clesr.pipeline.frame import Image
from clesr.pipeline.sinks.browser import feed as module
from clesr.pipeline.sinks.browser.feed import QUALITIES, Drawing, Feed, Picture, encode


class Drawn:
    """A feed whose drawings and encodings are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pace: DrawingPace | None = None) -> None:
        self.ready = threading.Semaphore(0)
        self.drawn: list[int] = []
        self.encoded: list[int] = []
        self.feed = Feed(self.ready.release, pace)

        def counted(image: Image, quality: int) -> bytes:
            self.encoded.append(quality)
            return encode(image, quality)

        monkeypatch.setattr(module, "encode", counted)

    def show(self, number: int) -> None:
        self.feed.show(Drawing(partial(self._draw, number), {"number": number}))

    def _draw(self, number: int) -> Image:
        self.drawn.append(number)
        return np.full((4, 4), number, np.uint8)

    def picture(self, quality: int, at_least: int) -> Picture:
        while (found := self.feed.picture(quality, at_least)) is None:
            assert self.ready.acquire(timeout=60)
        return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Drawn]:
    made = Drawn(monkeypatch)
    yield made
    made.feed.close()


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("colour", [False, True])
def test_pictures_are_what_they_say(quality: int, colour: bool) -> None:
    shape = (37, 51, 3) if colour else (37, 51)
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)
    data = encode(image, quality)
    assert data.startswith(b"\xff\xd8" if quality else b"\x89PNG")
    found = decoded(data)
    assert found.shape == image.shape
    error = np.abs(found.astype(int) - image).max()
    assert error == 0 if quality == 0 else error < 40


def test_lossless_loses_nothing_of_noise() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 48), np.uint8)
    assert np.array_equal(decoded(encode(image, 0)), image)


def test_nothing_is_drawn_while_nobody_looks(drawn: Drawn) -> None:
    for number in range(5):
        drawn.show(number)
    assert drawn.picture(90, 1).drawing.facts == {"number": 4}
    assert drawn.drawn == [4]


def test_who_wishes_the_same_gets_the_same(drawn: Drawn) -> None:
    drawn.show(7)
    first = drawn.picture(90, 1)
    assert drawn.picture(90, 1) is first
    assert drawn.picture(0, 1).data != first.data
    assert drawn.encoded == [90, 0]


def test_two_wishes_at_once_are_drawn_once(drawn: Drawn) -> None:
    assert drawn.feed.picture(90, 1) is None
    assert drawn.feed.picture(0, 1) is None
    drawn.show(7)
    drawn.picture(90, 1)
    drawn.picture(0, 1)
    assert drawn.drawn == [7]
    assert sorted(drawn.encoded) == [0, 90]


def test_pictures_that_take_long_hold_up_no_page_that_wishes_others_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As lossless ones do: the pages that look at JPEG get as many as they do without them."""
    clock = ManualClock()

    class Pace(DrawingPace):
        def drew(self, took_s: float, what: Hashable = None) -> None:
            super().drew(0.048 if what == 0 else 0.006, what)

    pace = Pace(clock, lambda: 100.0, share=0.1)
    drawn = Drawn(monkeypatch, pace)
    clock.advance(1.0)
    lossless = 0
    try:
        for number in range(1, 41):
            clock.advance(0.07)  # more than a rest of JPEG, 0.06 s, and less than one of PNG, 0.48 s
            assert drawn.feed.picture(0, number) is None
            drawn.feed.picture(90, number)
            drawn.show(number)
            assert drawn.picture(90, number).version == number
        until(lambda: drawn.encoded.count(0) >= 5)
        lossless = drawn.encoded.count(0)
    finally:
        drawn.feed.close()
    assert drawn.encoded.count(90) == 40
    assert lossless <= 7, "of 2.8 s"


def test_what_was_made_for_another_time_is_not_given(drawn: Drawn) -> None:
    drawn.show(1)
    drawn.picture(90, 1)
    drawn.show(2)
    assert drawn.picture(90, drawn.feed.version).drawing.facts == {"number": 2}


def test_an_error_of_drawing_is_kept(drawn: Drawn) -> None:
    def fail() -> Image:
        raise MemoryError("no room")

    drawn.feed.show(Drawing(fail, {}))
    drawn.feed.picture(90, 1)
    until(lambda: isinstance(drawn.feed.error, MemoryError))
