from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from session_runs import PERIOD_NS, START_NS, frames, record

from clesr.pipeline.frame import Corrupt
from clesr.pipeline.session import verify as verify_module
from clesr.pipeline.session.format import (
    Record,
    SessionError,
    digest_file,
    format_lines,
    format_manifest,
    parse_manifest,
)
from clesr.pipeline.session.reader import demux, read_session
from clesr.pipeline.session.verify import verify
from clesr.pipeline.session.video import ImageEncoder, ImageFormat, MatroskaFile

FILES = ("session.json", "frames.jsonl", "raw.mkv", "sr.mkv")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed session with a gap, a corrupt frame and nine images."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    record(folder, [*frames(range(5)), Corrupt(5, START_NS + 5 * PERIOD_NS, "torn"), *frames(range(8, 12))])
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def problems(folder: Path) -> str:
    """What ``verify`` finds, or says instead; empty where everything holds."""
    try:
        return "\n".join(verify(folder).problems)
    except SessionError as error:
        return str(error)


def altered(whole: Path, scratch: Path, change: Callable[[Path], None]) -> str:
    """What verify says of a copy after ``change``."""
    copy = scratch / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    change(copy)
    return problems(copy)


def test_an_untouched_session_holds(whole: Path) -> None:
    certificate = verify(whole)
    assert certificate.holds
    assert certificate.totals == read_session(whole).info.totals
    text = json.dumps(certificate.as_json())
    assert json.loads(text)["complete"] is True
    assert certificate.digest in (whole / "session.json").read_text()


@settings(max_examples=150)
@given(name=st.sampled_from(FILES), where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_one_changed_byte_anywhere_is_found_and_named(
    whole: Path, scratch: Path, name: str, where: float, change: int
) -> None:
    def flip(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[int(where * len(data))] ^= change
        (folder / name).write_bytes(data)

    assert name in altered(whole, scratch, flip)


@settings(max_examples=60)
@given(name=st.sampled_from(FILES), where=st.floats(0, 1, exclude_max=True))
def test_a_cut_is_found_and_named(whole: Path, scratch: Path, name: str, where: float) -> None:
    def cut(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(where * len(data))])

    assert name in altered(whole, scratch, cut)


@pytest.mark.parametrize("line", range(11))
def test_a_removed_line_is_found_and_named(whole: Path, scratch: Path, line: int) -> None:
    def remove(folder: Path) -> None:
        lines = (folder / "frames.jsonl").read_bytes().splitlines(keepends=True)
        del lines[line]
        (folder / "frames.jsonl").write_bytes(b"".join(lines))

    said = altered(whole, scratch, remove)
    assert f"frames.jsonl: line {line + 1}" in said or "frames.jsonl has 10 lines" in said


@settings(max_examples=30)
@given(pair=st.lists(st.integers(0, 10), min_size=2, max_size=2, unique=True))
def test_two_exchanged_lines_are_found_and_named(whole: Path, scratch: Path, pair: list[int]) -> None:
    def exchange(folder: Path) -> None:
        lines = (folder / "frames.jsonl").read_bytes().splitlines(keepends=True)
        lines[pair[0]], lines[pair[1]] = lines[pair[1]], lines[pair[0]]
        (folder / "frames.jsonl").write_bytes(b"".join(lines))

    assert f"frames.jsonl: line {min(pair) + 1}" in altered(whole, scratch, exchange)


@settings(max_examples=20)
@given(
    name=st.sampled_from(["raw.mkv", "sr.mkv"]),
    pair=st.lists(st.integers(0, 8), min_size=2, max_size=2, unique=True),
)
def test_two_exchanged_images_are_found_and_both_named(
    whole: Path, scratch: Path, name: str, pair: list[int]
) -> None:
    numbers = [0, 1, 2, 3, 4, 8, 9, 10, 11]

    def exchange(folder: Path) -> None:
        info = read_session(folder).info
        coded = list(demux(folder / name))
        data = [c.data for c in coded]
        data[pair[0]], data[pair[1]] = data[pair[1]], data[pair[0]]
        (folder / name).unlink()
        shape = info.raw_shape if name == "raw.mkv" else info.sr_shape
        images = ImageFormat(shape, coded[0].image.dtype)  # type: ignore[union-attr]
        file = MatroskaFile(folder / name, ImageEncoder("ffv1", images, fps=25, threads=1))
        for picture, place in zip(data, coded, strict=True):
            file.mux(picture, place.ticks, key=True)
        file.close()
        file.facts()

    said = altered(whole, scratch, exchange)
    assert f"{name} was changed" in said or f"{name} has" in said
    for position in pair:
        assert f"{name}: frame {numbers[position]} has other pixels" in said


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(whole: Path, scratch: Path, name: str) -> None:
    assert name in altered(whole, scratch, lambda folder: (folder / name).unlink())


def rewritten(whole: Path, scratch: Path, change: Callable[[list[Record]], list[Record]]) -> str:
    """What verify says where records were changed and every hash written anew, as one who knows the format could."""

    def forge(folder: Path) -> None:
        info = read_session(folder).info
        records = change(list(read_session(folder).lines()))
        lines, chain = format_lines(records, info.id)
        (folder / "frames.jsonl").write_bytes(lines)
        files = {**(info.files or {}), "frames.jsonl": digest_file(folder / "frames.jsonl")}
        info = replace(info, lines=len(records), chain=chain, files=files)
        (folder / "session.json").write_bytes(format_manifest(info))

    return altered(whole, scratch, forge)


def test_a_number_without_a_line_is_named_even_where_the_hashes_are_right(whole: Path, scratch: Path) -> None:
    said = rewritten(whole, scratch, lambda records: [r for r in records if r.number != 6])
    assert "frames 6 to 7 have no line" in said
    assert "the totals are" in said


def test_a_number_with_two_lines_is_named_even_where_the_hashes_are_right(whole: Path, scratch: Path) -> None:
    def twice(records: list[Record]) -> list[Record]:
        return [structs.replace(r, number=9) if r.number == 8 else r for r in records]

    said = rewritten(whole, scratch, twice)
    assert "frame 8 has no line" in said
    assert "frame 9 has two lines" in said


def test_time_that_runs_backwards_is_named(whole: Path, scratch: Path) -> None:
    def back(records: list[Record]) -> list[Record]:
        return [structs.replace(r, captured_ns=5) if r.number == 9 else r for r in records]

    assert "frame 9 was captured before the frame before it" in rewritten(whole, scratch, back)


def test_a_stage_out_of_order_is_named(whole: Path, scratch: Path) -> None:
    def swap(records: list[Record]) -> list[Record]:
        return [structs.replace(r, submitted_ns=r.collected_ns, collected_ns=r.submitted_ns) for r in records]

    assert "passed the stages in a wrong order" in rewritten(whole, scratch, swap)


def test_of_many_problems_of_a_kind_the_first_are_named_and_the_others_counted(
    whole: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap(records: list[Record]) -> list[Record]:
        return [structs.replace(r, submitted_ns=r.collected_ns, collected_ns=r.submitted_ns) for r in records]

    monkeypatch.setattr(verify_module, "SHOWN", 3)
    said = rewritten(whole, scratch, swap)
    assert said.count("passed the stages in a wrong order") == 3
    assert "\n6 more of the last kind" in said


def test_a_newer_format_is_one_line(whole: Path, scratch: Path) -> None:
    def newer(folder: Path) -> None:
        text = (folder / "session.json").read_text()
        (folder / "session.json").write_text(text.replace('"version": 1', '"version": 2'))

    said = altered(whole, scratch, newer)
    assert said.endswith("session.json has format version 2, this clesr reads 1; update clesr")


def test_a_manifest_says_what_it_was_given() -> None:
    with pytest.raises(SessionError, match="damaged"):
        parse_manifest(b"[]", "session.json")
    with pytest.raises(SessionError, match="damaged"):
        parse_manifest(b'{"version": 1}', "session.json")


@pytest.mark.parametrize(
    ("cut_off", "why"),
    [
        ("", ", and nothing explains that"),
        (
            ": the recording was cut off before that was written",
            ": the recording was cut off before that was written",
        ),
    ],
)
def test_only_a_recording_that_was_cut_off_explains_frames_without_a_line(cut_off: str, why: str) -> None:
    """A frame that has no image gets its line before earlier ones whose images are still being encoded."""
    records: Any = [SimpleNamespace(number=0, count=1), SimpleNamespace(number=5, count=1)]
    assert list(verify_module._numbers(records, 0, cut_off)) == [
        f"frames 1 to 4 have no line in frames.jsonl{why}"
    ]
