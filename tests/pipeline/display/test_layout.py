"""Coordinates of a window or page and of the image, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clesr.pipeline.display import layout
from clesr.pipeline.display.layout import Box
from clesr.pipeline.display.view_state import Mode, ViewState

SIDES = st.integers(1, 2000)
SHARES = st.floats(0, 1)
ZOOMS = st.floats(1, 64)
MODES = st.sampled_from(list(Mode))


@st.composite
def layouts(draw: st.DrawFn) -> tuple[layout.Layout, Box, ViewState]:
    shape = draw(st.tuples(SIDES, SIDES))
    room = Box(
        draw(st.integers(-5, 300)), draw(st.integers(0, 300)), draw(st.integers(20, 2000)), draw(SIDES)
    )
    view = ViewState(mode=draw(MODES), zoom=draw(ZOOMS), centre=(draw(SHARES), draw(SHARES)))
    return layout.lay_out(shape, room, view, draw(st.sampled_from([0.5, 1.0, 1.2]))), room, view


@given(layouts())
def test_the_picture_lies_in_its_room_and_the_crop_in_the_image(
    laid: tuple[layout.Layout, Box, ViewState],
) -> None:
    found, room, _ = laid
    place, crop, (height, width) = found.place, found.crop, found.shape
    assert place.width % found.panes == 0, "all panes are as wide as each other"
    assert room.left <= place.left
    assert place.left + place.width <= room.left + room.width
    assert room.top <= place.top
    assert place.top + place.height <= room.top + room.height
    assert crop.left >= 0 <= crop.top
    assert crop.left + crop.width <= width
    assert crop.top + crop.height <= height


@given(layouts(), SHARES, SHARES)
def test_a_place_on_the_window_is_found_again(
    laid: tuple[layout.Layout, Box, ViewState], along: float, down: float
) -> None:
    found, _, _ = laid
    x = found.place.left + along * found.place.width
    y = found.place.top + down * found.place.height
    pane = found.pane_at(x)
    assert found.to_window(*found.to_image(x, y), pane) == pytest.approx((x, y), abs=1e-6)
    u, v = found.to_image(x, y)
    assert -1e-9 <= u <= 1 + 1e-9
    assert -1e-9 <= v <= 1 + 1e-9


def test_both_panes_show_the_same_place() -> None:
    side = layout.lay_out((100, 100), Box(0, 0, 400, 200), ViewState(mode=Mode.SIDE))
    assert side.place == (0, 0, 400, 200)
    assert side.to_image(50, 40) == side.to_image(250, 40) == (0.25, 0.2)
    assert side.to_window(0.25, 0.2, 1) == (250, 40)
    assert side.to_image(250, 40, pane=0) == (1.25, 0.2), "a drag goes on beyond its pane"


@pytest.mark.parametrize(
    ("view", "crop"),
    [
        (ViewState(), (0, 0, 400, 200)),
        (ViewState(zoom=4), (150, 75, 100, 50)),
        (ViewState(zoom=4, centre=(0, 0)), (0, 0, 100, 50)),
        (ViewState(zoom=4, centre=(1, 0.5)), (300, 75, 100, 50)),
        (ViewState(zoom=1000), (200, 100, 1, 1)),
    ],
)
def test_a_zoom_keeps_inside_the_image(view: ViewState, crop: tuple[int, ...]) -> None:
    assert layout.visible((200, 400), view) == crop


@given(st.floats(0, 719), st.floats(0, 719), st.floats(1, 8), st.floats(0.2, 5))
def test_what_is_under_the_pointer_stays_there(x: float, y: float, zoom: float, factor: float) -> None:
    """Within a pixel of the image, unless its edge would come into view."""
    room = Box(0, 0, 720, 720)
    view = ViewState(zoom=zoom, centre=(0.5, 0.5))
    before = layout.lay_out((1024, 1024), room, view)
    new, centre = layout.zoomed(view, before, x, y, factor)
    after = layout.lay_out((1024, 1024), room, ViewState(zoom=new, centre=centre))
    assert 1 <= new <= layout.MOST_ZOOM
    if factor >= 1:
        was, now = before.to_image(x, y), after.to_image(x, y)
        assert now == pytest.approx(was, abs=2.5 / 1024)


@pytest.mark.parametrize(("zoom", "width"), [(1.0, 720), (1.0, 480), (3.0, 720), (20.0, 1900)])
@pytest.mark.parametrize("pixel_um", [0.05, 0.25, 1.2, 40.0])
def test_a_scale_bar_is_as_long_as_it_says(zoom: float, width: int, pixel_um: float) -> None:
    view = ViewState(zoom=zoom)
    laid = layout.lay_out((1024, 1024), Box(0, 0, width, width), view)
    bar = layout.scale_bar(laid, pixel_um)
    per_pixel = laid.crop.width * pixel_um / laid.place.width  # micrometres of a pixel of the window
    assert bar.pixels == round(bar.micrometres / per_pixel)
    assert width / 10.1 <= bar.pixels <= width / 4 + 1
    digits = f"{bar.micrometres:e}"
    assert digits[0] in "125"
    assert float(digits.partition("e")[0]) in (1.0, 2.0, 5.0)


@pytest.mark.parametrize(
    ("um", "text"), [(0.5, "0.5 µm"), (50.0, "50 µm"), (1000.0, "1 mm"), (5000.0, "5 mm")]
)
def test_a_scale_bar_says_its_length(um: float, text: str) -> None:
    assert str(layout.ScaleBar(um, 10)) == text
