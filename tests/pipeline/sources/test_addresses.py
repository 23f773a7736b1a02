"""Whatever stands in an address or an option: one line that says what is allowed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clesr.engines.common.addresses import split_options
from clesr.engines.common.errors import ClesrError, SourceError, UsageError
from clesr.engines.common.limits import parse_side
from clesr.engines.common.numbers import decimal_number, rational_number, shortened, whole_number
from clesr.pipeline.prepare import IntensityWindow, Roi
from clesr.pipeline.source import parse_pace
from clesr.pipeline.sources.images import mkt
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.simulator.demo import OPTIONS, read_options
from clesr.pipeline.sources.v4l2.address import _fps, _size
from clesr.pipeline.sources.zeromq.source import parse_address

ODD = (
    "1e99999999",
    "1e-99999999",
    "1e999",
    "1e-400",
    "nan",
    "inf",
    "-inf",
    "1/0",
    "0/0",
    "9" * 5000,
    "\uff11",
    "\u0663",
    "1_0",
    "0x10",
    " 5",
    "5 ",
    "--5",
    "",
    "\0",
    "%00",
    "\ud800",
    "\x1b[31m",
    "\n",
    "%0a",
)


def read_demo(name: str, text: str) -> object:
    return read_options(f"demo:?{name}={text}", OPTIONS)


READERS: dict[str, Callable[[str], object]] = {
    **{f"demo {name}": partial(read_demo, name) for name in OPTIONS},
    "fps": lambda text: _fps("/dev/video0", text),
    "size": lambda text: _size("/dev/video0", text),
    "pace": parse_pace,
    "roi": lambda text: Roi.parse(f"0,0,{text},8"),
    "window": lambda text: IntensityWindow.parse(f"{text},9"),
    "side": parse_side,
    "port": lambda text: parse_address(f"zmq+tcp://h:{text}"),
    "options": lambda text: split_options(f"/dev/video0?{text}"),
    "topic": lambda text: parse_address(f"zmq+tcp://h:1?topic={text}&bind={text}"),
}
LENIENT = {
    ("window", " 5"),
    ("window", "5 "),
    ("roi", " 5"),
    ("roi", "5 "),
    ("options", ""),
}


@pytest.mark.parametrize("text", ODD, ids=lambda text: shortened(text, 12))
@pytest.mark.parametrize("name", READERS)
def test_odd_values_are_refused_in_a_line_and_at_once(name: str, text: str) -> None:
    if (name, text) in LENIENT:
        READERS[name](text)
        return
    begin = time.process_time()
    with pytest.raises(UsageError) as raised:
        READERS[name](text)
    assert time.process_time() - begin < 1
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 6000


TEXT = st.text(max_size=60) | st.sampled_from(ODD)


@settings(deadline=None)
@given(st.sampled_from(list(READERS)), TEXT, TEXT)
def test_any_text_is_read_or_refused(name: str, begin: str, end: str) -> None:
    with contextlib.suppress(UsageError):
        READERS[name](begin + end)


@settings(deadline=None, max_examples=50)
@given(TEXT)
def test_any_address_opens_or_is_refused(text: str) -> None:
    for address in ("demo:?" + text, "/dev/video" + text, "/nowhere/" + text, "file:///nowhere" + text):
        with contextlib.suppress(ClesrError):
            open_source(address).close()


@pytest.mark.parametrize(
    "address", ["a" * 5000, "/" + "a" * 300, "a\0b.mkv", "\ud800.mkv", "file:///a%00b", "b" * 256]
)
def test_names_that_no_file_has(address: str) -> None:
    with pytest.raises((UsageError, SourceError)) as raised:
        open_source(address)
    assert len(str(raised.value)) < 700


def test_plain_numbers_are_read() -> None:
    assert [whole_number(text) for text in ("0", "-12", "+7")] == [0, -12, 7]
    assert [decimal_number(text) for text in ("1", "-1.5", ".5", "2.", "1e3", "2.5E-3")] == [
        1,
        -1.5,
        0.5,
        2,
        1000,
        0.0025,
    ]
    assert rational_number("30000/1001") == Fraction(30000, 1001)
    assert rational_number("12.5") == Fraction(25, 2)


@given(st.floats(allow_nan=False, width=32))
def test_a_cellvizio_header_of_any_rate_is_read_or_refused(rate: float) -> None:
    import struct

    header = bytearray(16)
    struct.pack_into(">f", header, 5, rate)
    struct.pack_into(">i", header, 10, 2 * 576 * 2)
    try:
        fps, shape = mkt.parse_mkt_header(bytes(header), "a")
    except SourceError:
        return
    assert 1 / Fraction(fps).limit_denominator(1000) > 0
    assert shape == (2, 576)
