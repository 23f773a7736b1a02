"""What comes from outside is of its declared type, or one line says why not."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from mutations import check_line

from clesr.engines.common.parsing import (
    DEEPEST,
    Count,
    check_depth,
    convert,
    one_line,
    open_regular,
    parse_json,
    parse_toml,
    read_bounded,
    read_lines,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    number: Count
    sizes: tuple[Count, Count] | None = None
    words: dict[str, Any] | None = None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"number":-1}', "number is -1: expected `int` >= 0"),
        (b'{"number":9223372036854775808}', "number is 9223372036854775808: expected `int` <= 9223372036854775807"),
        (b'{"number":true}', "number is True: expected `int`, got `bool`"),
        (b'{"number":1.0}', "number is 1.0: expected `int`, got `float`"),
        (b'{"number":1,"sizes":[1,"\\u001b[31m"]}', "sizes[1] is '\\x1b[31m': expected `int`, got `str`"),
        (b'{"number":1,"sizes":[1]}', "sizes is list: expected `array` of length 2"),
        (b"{}", "Object missing required field `number`"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'{"number":NaN}', "JSON is malformed: invalid character (byte 10)"),
        (b"\xff\xfe", "JSON is malformed: invalid character (byte 0)"),
        (b"", "Input data was truncated"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_value(text: bytes, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_json(text, Thing)
    assert str(caught.value) == said


@pytest.mark.parametrize("kind", [Thing, dict, Any])
@pytest.mark.parametrize(
    "text", [b"[" * 200_000, b'{"a":' * 100_000, b'{"number":1,"words":' + b'{"a":' * 100_000]
)
def test_nesting_is_one_line(text: bytes, kind: type[Any]) -> None:
    with pytest.raises(ValueError) as caught:
        parse_json(text, kind)
    assert "\n" not in str(caught.value)


@given(data=st.binary(max_size=80))
def test_other_bytes_are_refused_in_one_line(data: bytes) -> None:
    for parse in (parse_json, parse_toml):
        try:
            parse(data, Thing)
        except ValueError as error:
            check_line(error)


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_any_json_is_a_thing_or_refused(value: Any) -> None:
    for values in (value, {"number": value}, {"number": 1, "sizes": value}):
        try:
            assert isinstance(parse_json(json.dumps(values), Thing), Thing)
        except ValueError as error:
            check_line(error)


def test_what_is_no_number_is_taken_only_where_python_may_have_written_it() -> None:
    text = json.dumps({"number": 1, "words": {"a": float("inf"), "b": "\udcff"}})
    with pytest.raises(ValueError, match="malformed"):
        parse_json(text, Thing)
    assert parse_json(text, Thing, nonfinite=True).words == {"a": float("inf"), "b": "\ufffd"}
    bounded = Annotated[float, Meta(ge=0, le=1)]
    for value in ("NaN", "Infinity", "[" * 100_000):
        with pytest.raises(ValueError):
            parse_json(value, cast(Any, bounded), nonfinite=True)


def test_half_a_surrogate_pair_is_replaced_and_nothing_else() -> None:
    text = rb'{"number":1,"words":{"a":"\udcff \\udcff \\\udc00 \ud83d\ude00 \ud800x"}}'
    found = parse_json(text, Thing).words
    assert found == {"a": "\ufffd \\udcff \\\ufffd \U0001f600 \ufffdx"}


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 60_000,
        "a = " + "{a=" * 20_000,
        "a" + ".a" * 32_000 + " = 1",
        '"a.b"' + '."a.b"' * 10_000 + " = 1",
        "[a" + " . a" * 15_000 + "]",
        "x = {a" + ".a" * 32_000 + " = 1}",
    ],
)
def test_toml_that_takes_a_reader_long_is_refused_at_once(text: str) -> None:
    """tomllib takes the square of a dotted key's length: half a minute for 64 kB."""
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml(text, dict)


def test_toml_with_many_dots_that_are_no_keys_is_read() -> None:
    numbers = ", ".join(["1.5"] * 100)
    text = f'a = [{numbers}]\nb = "{"x." * 100}" # {"y." * 100}\nc.d.e = {{f.g = 1}}\n'
    found = parse_toml(text, dict)
    assert found["a"] == [1.5] * 100
    assert found["b"] == "x." * 100
    assert found["c"]["d"]["e"] == {"f": {"g": 1}}


def test_depth_is_limited_where_types_say_nothing() -> None:
    value: Any = 1
    for _ in range(DEEPEST):
        value = [{"a": value}["a"]]
    check_depth(value)
    with pytest.raises(ValueError, match="nested too deeply"):
        check_depth({"a": [value]})


def test_values_are_converted_as_json_is() -> None:
    assert convert({"number": 3, "sizes": [1, 2]}, Thing) == Thing(number=3, sizes=(1, 2))
    with pytest.raises(ValueError, match="number is 'x': expected `int`, got `str`"):
        convert({"number": "x"}, Thing)


def test_a_file_of_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    assert read_bounded(path, 100) == b"x" * 100
    with pytest.raises(ValueError, match="has 100 bytes, at most 99 are allowed"):
        read_bounded(path, 99)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises((ValueError, IsADirectoryError)):
        open_regular(path)


def test_a_file_that_grows_while_it_is_read_is_not_read_on() -> None:
    """Files in /proc state a size of 0."""
    with pytest.raises(ValueError, match="grew while it was read"):
        read_bounded(Path("/proc/self/status"), 1 << 20)


def test_a_high_limit_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    tracemalloc.start()
    assert read_bounded(path, 1 << 40) == b"x"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20


def test_lines_are_bounded() -> None:
    file = cast(io.BufferedReader, io.BytesIO(b"one\ntwo\nthree"))
    lines = read_lines(file, 4)
    assert [next(lines), next(lines)] == [b"one\n", b"two\n"]
    with pytest.raises(ValueError, match="longer than the 4 bytes"):
        next(lines)


def test_one_line_is_printable_and_short() -> None:
    assert one_line(ValueError("a\n b\x1b[2J" + "x" * 500)).isprintable()
    assert len(one_line(ValueError("x" * 500))) == 200
    assert one_line(KeyError()) == "KeyError"
