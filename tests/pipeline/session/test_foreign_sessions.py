"""Sessions of others: whatever their files say, with every hash right, each command gives results or one line."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import FOREIGN, REMOVED, check_line, mutated, places, replaced
from session_runs import frames, record

from clesr.engines.common.errors import ClesrError, EndOfSource
from clesr.engines.common.parsing import read_bounded
from clesr.engines.common.text import presentable
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.session.format import (
    LINE_BYTES,
    MANIFEST_BYTES,
    Record,
    SessionError,
    digest_file,
    format_lines,
    format_manifest,
    hash_bytes,
    parse_line,
    parse_manifest,
)
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.verify import verify
from clesr.pipeline.sources.session import SessionSource
from clesr.tools.commands import info as info_command
from clesr.tools.commands import verify as verify_command
from clesr.tools.commands.replay import settings_of
from clesr.tools.export.selection import Selection
from clesr.tools.export.sessions import session_clip
from clesr.tools.render_run import RecordedEngine, compare

ZEROS = b"0" * 64
Values = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed session with a gap, a corrupt frame and six images, with settings."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    script = [*frames(range(3)), Corrupt(3, 10**12 + 3 * 40_000_000, "torn"), *frames(range(6, 9))]
    given = {"roi": None, "window": "full", "masks": ["0,0,2,2"], "consistent": False, "threads": 1}
    record(folder, script, pixel_um=0.8, settings=given)
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def session(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "s")


def write_manifest(folder: Path, values: Any) -> None:
    """``session.json`` with its hash made right, where it still has one."""
    text = json.dumps(values, indent=2).encode() + b"\n"
    head, found, tail = text.rpartition(b'"hash": "')
    if found and len(tail) > 64:
        text = head + found + ZEROS + tail[64:]
        text = head + found + hash_bytes(text).encode() + tail[64:]
    (folder / "session.json").write_bytes(text)


def write_lines(folder: Path, lines: list[Any], *, stated: bool = True) -> None:
    """``frames.jsonl`` with its chain made right; ``stated``: as ``session.json`` then states it."""
    manifest = json.loads((folder / "session.json").read_text())
    chain, text = manifest["id"], b""
    for line in lines:
        body = json.dumps(line, separators=(",", ":")).encode()[:-1]
        chain = hash_bytes(chain.encode(), body)
        text += body + b',"chain":"' + chain.encode() + b'"}\n'
    (folder / "frames.jsonl").write_bytes(text)
    if stated:
        manifest |= {"lines": len(lines), "chain": chain}
        manifest["files"]["frames.jsonl"] = digest_file(folder / "frames.jsonl")
        write_manifest(folder, manifest)


def manifest_of(folder: Path) -> Values:
    found: Values = json.loads((folder / "session.json").read_text())
    return found


def lines_of(folder: Path) -> list[Values]:
    found = [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "chain"} for line in found]


def _verify(folder: Path) -> None:
    certificate = verify(folder)
    assert all(presentable(line).isprintable() for line in verify_command.describe(certificate))
    json.dumps(certificate.as_json())


def _info(folder: Path) -> None:
    facts = info_command.describe(str(folder))
    assert all(presentable(info_command._words(value)).isprintable() for value in facts.values())
    json.dumps(facts)


def _replay(folder: Path) -> None:
    settings_of(read_session(folder).info)
    with closing(SessionSource(folder)) as source, suppress(EndOfSource):
        for _ in range(60):
            source.read(0)


def _export(folder: Path) -> None:
    for kind in ("raw", "sr"):
        with suppress(ClesrError):
            clip = session_clip(
                read_session(folder),
                kind,
                Selection(0, None),
                pixel_um=None,
                dated=True,
                named=True,
            )
            for still in clip.stills:
                assert still.image.ndim == 2


def _render(folder: Path) -> None:
    opened = read_session(folder)
    compare(opened, RecordedEngine(opened, {"model": "bicubic"}))


def _repair(folder: Path) -> None:
    with suppress(ValueError):
        values = json.loads(read_bounded(folder / "session.json", MANIFEST_BYTES))
        if isinstance(values, dict):
            write_manifest(folder, values | {"closed": False})
    repair(folder)
    verify(folder)


COMMANDS = (_verify, _info, _replay, _export, _render, _repair)


def use(folder: Path) -> None:
    """Every command on ``folder``; all but clesr's own errors come through."""
    for command in COMMANDS:
        with suppress(ClesrError):
            command(folder)


def copied(whole: Path, scratch: Path) -> Path:
    shutil.rmtree(scratch / "copy", ignore_errors=True)
    return shutil.copytree(whole, scratch / "copy")


def each(value: Any) -> Iterator[Any]:
    """``value`` with every foreign value at every place."""
    for path in places(value):
        for new in FOREIGN:
            yield replaced(value, path, new)


def test_every_foreign_value_anywhere_in_a_manifest_is_read_or_refused(whole: Path) -> None:
    refused = 0
    for values in each(manifest_of(whole)):
        text = json.dumps(values).encode()
        try:
            parse_manifest(text, "session.json")
        except SessionError as error:
            refused += 1
            check_line(error)
    assert refused > 1000


def test_every_foreign_value_anywhere_in_a_line_is_read_or_refused(whole: Path) -> None:
    refused = 0
    for line in lines_of(whole):
        for values in each(line):
            body = json.dumps(values, separators=(",", ":")).encode()[:-1]
            text = body + b',"chain":"' + hash_bytes(b"", body).encode() + b'"}\n'
            try:
                found, _ = parse_line(text, "", Record)
            except ValueError as error:
                refused += 1
                check_line(error)
            else:
                assert isinstance(found, Record)
    assert refused > 1000


SLOW = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@SLOW
@given(data=st.data())
def test_a_foreign_manifest_gives_results_or_one_line(
    data: st.DataObject, whole: Path, scratch: Path
) -> None:
    folder = copied(whole, scratch)
    write_manifest(folder, data.draw(mutated(manifest_of(folder))))
    use(folder)


@SLOW
@given(data=st.data())
def test_foreign_lines_give_results_or_one_line(data: st.DataObject, whole: Path, scratch: Path) -> None:
    folder = copied(whole, scratch)
    lines = data.draw(mutated(lines_of(folder)))
    write_lines(folder, lines if all(isinstance(line, dict) for line in lines) else lines[:1])
    use(folder)


Change = Callable[[list[Values], Values], None]


def _line(number: int, **values: Any) -> Change:
    def change(lines: list[Values], _manifest: Values) -> None:
        line = next(line for line in lines if line["number"] == number)
        line |= values
        for key in [key for key, value in line.items() if value is REMOVED]:
            del line[key]

    return change


def _manifest(**values: Any) -> Change:
    return lambda _lines, manifest: manifest.update(values)


AT_ODDS: dict[str, tuple[Change, str]] = {
    "a picture without hash": (_line(0, raw_hash=REMOVED), "without its hash"),
    "a hash without picture": (_line(0, sr_index=REMOVED), "a hash without an image"),
    "two frames, one picture": (_line(1, raw_index=0), "is image 0 of raw.mkv, a frame before it is image 0"),
    "pictures in another order": (_line(1, raw_index=5), "a frame before it is image 5"),
    "a picture beyond the end": (_line(6, raw_index=9), "ends early"),
    "a picture of a corrupt frame": (
        _line(3, raw_index=7, raw_hash="0" * 64),
        "is corrupt, but has an image",
    ),
    "one line for many frames": (_line(0, count=2), "was not lost at the source"),
    "levels the wrong way": (_line(0, levels=[9.0, 9.0]), "black at level 9 and white at 9"),
    "other raw pixels": (_line(0, raw_hash="0" * 64), "raw.mkv: frame 0 has other pixels than its line says"),
    "other SR pixels": (_line(0, sr_hash="0" * 64), "sr.mkv: frame 0 has other pixels than its line says"),
    "another coded picture": (
        _line(0, sr_coded="0" * 64),
        "sr.mkv: frame 0 is not the coded picture of its line",
    ),
    "another time": (_line(1, ticks=41), "is shown at 40 ms, its line says 41"),
    "another size": (_manifest(raw_shape=[18, 12]), "states other images"),
    "another depth": (_manifest(dtype="uint16"), "states other images"),
    "closed without totals": (_manifest(totals=None), "states no totals"),
    "closed without digests": (_manifest(files=None), "states no files"),
    "other totals": (_manifest(totals={"captured": 9}), "the totals are"),
    "another first frame": (_manifest(first=1), "frame 0"),
}


@pytest.mark.parametrize("name", AT_ODDS)
def test_fields_that_do_not_agree_are_found(name: str, session: Path) -> None:
    """Every hash is made right again."""
    change, words = AT_ODDS[name]
    lines, manifest = lines_of(session), manifest_of(session)
    change(lines, manifest)
    write_manifest(session, manifest)
    write_lines(session, lines, stated=manifest["files"] is not None)
    found = "\n".join(verify(session).problems)
    assert words in found


def test_a_file_that_no_digest_covers_is_found(session: Path) -> None:
    manifest = manifest_of(session)
    del manifest["files"]["sr.mkv"]
    write_manifest(session, manifest)
    assert "session.json states no digest of sr.mkv" in verify(session).problems


@pytest.mark.parametrize("name", ["../victim", "/etc/passwd", "a/b", "..", ".", ""])
def test_only_files_of_the_folder_are_looked_at(session: Path, name: str) -> None:
    manifest = manifest_of(session)
    manifest["files"][name] = manifest["files"].pop("sr.mkv")
    write_manifest(session, manifest)
    assert "which no session has" in "\n".join(verify(session).problems)


@pytest.mark.parametrize(("name", "size"), [("session.json", MANIFEST_BYTES), ("frames.jsonl", LINE_BYTES)])
def test_too_much_is_not_read(session: Path, name: str, size: int) -> None:
    with (session / name).open("r+b") as file:
        file.truncate(200 << 20)  # takes no room on the disk
    tracemalloc.start()
    try:
        found = "\n".join(verify(session).problems)
    except SessionError as error:
        found = str(error)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(size) in found
    assert most < 30 << 20
    use(session)


@pytest.mark.parametrize("name", ["session.json", "frames.jsonl", "raw.mkv", "sr.mkv"])
def test_what_is_no_regular_file_is_not_waited_for(session: Path, name: str) -> None:
    (session / name).unlink()
    os.mkfifo(session / name)
    use(session)


def test_an_endless_line_is_refused(session: Path) -> None:
    text = (session / "frames.jsonl").read_bytes()
    (session / "frames.jsonl").write_bytes(b" " * LINE_BYTES + text)
    assert "line 1 is longer than the 1048576 bytes" in "\n".join(verify(session).problems)
    use(session)


def test_nesting_is_one_line(session: Path) -> None:
    for deep in (b"[" * 100_000, b'{"a":' * 50_000):
        with pytest.raises(SessionError, match=r"nested too deeply|malformed|truncated"):
            parse_manifest(b'{"settings": ' + deep, "session.json")
        body = b'{"levels":' + deep
        line = body + b',"chain":"' + hash_bytes(b"", body).encode() + b'"}\n'
        with pytest.raises(ValueError, match=r"nested too deeply|truncated|got `array`|got `object`"):
            parse_line(line, "", Record)


def test_a_byte_of_a_file_name_that_is_no_text_does_not_close_a_session(session: Path) -> None:
    info = replace(read_session(session).info, source="caf\udce9.mkv")
    (session / "session.json").write_bytes(format_manifest(info))
    assert read_session(session).info.source == "caf\ufffd.mkv"
    use(session)


def test_a_reason_is_cut_where_it_would_make_its_line_too_long() -> None:
    line, chain = format_lines([Record(number=0, captured_ns=0, reason="\U0001f600" * 10**6)], "")
    assert len(line) < LINE_BYTES
    record_, found = parse_line(line, "", Record)
    assert found == chain
    assert record_.reason == "\U0001f600" * 4096


def test_fields_of_later_versions_are_passed_over_in_the_manifest_alone(session: Path) -> None:
    write_manifest(session, {**manifest_of(session), "z_future": {"a": [1]}, "hash": "0" * 64})
    assert read_session(session).info.first == 0
    lines = lines_of(session)
    write_lines(session, [lines[0] | {"future": 1}, *lines[1:]])
    with pytest.raises(SessionError, match=r"line 1 holds what this format does not know.*future"):
        list(read_session(session).lines())


def test_pictures_of_another_size_cannot_be_compared(session: Path) -> None:
    write_manifest(session, manifest_of(session) | {"scale": 4})
    opened = read_session(session)
    with pytest.raises(SessionError, match="recorded image of frame 0"):
        compare(opened, RecordedEngine(opened, {"model": "bicubic"}))


def test_a_frame_without_a_time_is_played(session: Path) -> None:
    lines = lines_of(session)
    for line in lines:
        line.pop("ticks", None)
    write_lines(session, lines)
    with closing(SessionSource(session)) as source:
        first = source.read(0)
    assert isinstance(first, Frame)
    assert first.pts is None
    assert first.image.dtype == np.uint8
