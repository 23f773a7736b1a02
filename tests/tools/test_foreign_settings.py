"""Settings, recipes, patients and remembered choices of others: used, or refused in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from click.exceptions import ClickException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import FOREIGN, REMOVED, check_line, places, replaced

from clesr.engines import timing as choice
from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.common.limits import DEFAULT_SIDE, set_max_side
from clesr.tools.bench import stored as bench
from clesr.tools.cli import COMMANDS, read_config
from clesr.tools.commands.live import settings_of_streams
from clesr.tools.commands.train import _recipe
from clesr.tools.export.patient import Patient, read_patient
from clesr.tools.training import checkpoint

VALUES = (
    "1", "-1", "0", "1e400", "nan", "inf", "true", '"x"', '""', "[]", "[1]", '["a","b"]', "{}", "{a=1}", "1979-05-27",
    "07:32:00", "9" * 30, '"\\u0000"', '"\\u001b[2J"', '"0,0,1,1"',
    "[[1,2],[3]]", '[1.5, true, "x"]', "0xffffffffffffffffff",
)  # fmt: skip
NESTED = ("a = " + "[" * 60_000, "[live]\na = " + "{a=" * 5000, "[" + "a." * 30_000 + "a]")
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def longest_side() -> Iterator[None]:
    """--max-size holds for the whole process."""
    yield
    set_max_side(DEFAULT_SIDE)


def _arguments(name: str) -> list[str]:
    """What the command needs beside its settings."""
    given = {"live": ["--source", "demo:"], "upscale": ["a", "-o", "b"], "export": ["s", "-o", "x.png"]}
    needed = [p for p in COMMANDS[name].params if p.param_type_name == "argument" and p.required]
    return given.get(name, ["x"] * len(needed))


@MANY
@given(data=st.data())
def test_settings_of_any_kind_are_used_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    name = data.draw(st.sampled_from(sorted(COMMANDS)))
    command = COMMANDS[name]
    options = data.draw(
        st.lists(st.sampled_from([p.name for p in command.params if p.name]), max_size=3, unique=True)
    )
    lines = [f"{option} = {data.draw(st.sampled_from(VALUES))}" for option in options]
    path = tmp_path / "config.toml"
    path.write_text("\n".join([f"[{name}]", *lines]) + "\n")
    try:
        found = read_config(path)
        context = command.make_context(name, _arguments(name), default_map=found[name])
        if name == "live":
            settings_of_streams({**context.params, "source": ("demo:",)})
        if name == "train" and context.params.get("data"):
            _recipe(
                {
                    k: v
                    for k, v in context.params.items()
                    if k not in ("output", "every", "threads", "device", "devices")
                }
            )
    except ClesrError as error:
        check_line(error)
    except (ClickException, SystemExit):
        pass


@pytest.mark.parametrize("text", NESTED)
def test_nesting_in_settings_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match="nested too deeply"):
        read_config(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("scale = 2024-01-01", "scale is '2024-01-01'; give a text or a number"),
        ("scale = {a = 1}", "give a text or a number"),
        ("consistent = 1", "consistent is '1'; give true or false"),
        ("scale = true", "scale is 'True'; give a text or a number"),
        ("mask = [[1]]", "or a list of these"),
        ('output = "a\\u0000b"', "output is"),
    ],
)
def test_values_that_no_option_takes_are_named(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[live]\n" + line + "\n")
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


Reader = Callable[[Path], object]
READERS: dict[str, Reader] = {
    "config.toml": read_config,
    "p.toml": read_patient,
    "p.json": read_patient,
    "b.json": bench.read,
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_takes_a_giant_file_or_waits_for_a_pipe(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(UsageError, match="cannot be read: has 104857600 bytes, at most"):
        READERS[name](path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="cannot be read: is not a regular file"):
        READERS[name](path)
    path.unlink()
    path.write_bytes(b"[" * 20_000)
    with pytest.raises(UsageError, match="cannot be read"):
        READERS[name](path)


PATIENT = {
    "name": "Doe^Jane",
    "id": "17",
    "birth_date": "1960-12-31",
    "sex": "F",
    "study_instance_uid": "1.2.3",
}


def test_every_foreign_value_in_a_patient(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for place in places(PATIENT):
        for new in FOREIGN:
            path.write_text(json.dumps(replaced(PATIENT, place, new)))
            try:
                assert isinstance(read_patient(path), Patient)
            except UsageError as error:
                check_line(error)


def test_every_foreign_value_in_a_result_of_the_bench(tmp_path: Path) -> None:
    from clesr.tools.bench.report import comparison

    shipped = json.loads((Path(__file__).parents[2] / "benchmarks/results/bench-cpu.json").read_text())
    row = {
        key: shipped["rows"][0][key]
        for key in ("model", "scale", "lr", "label", "frames_s", "latency_ms", "streams_30", "watts")
    }
    row |= {"parity": {}, "psnr_db": {}}
    told = ("benchmark", "format", "versions", "peak_gflop_s", "commit", "settings")
    machine = {"cpu": "a", "cores": 2, "gpu": None}
    whole = {**{key: shipped[key] for key in told}, "machine": machine, "rows": [row]}
    path = tmp_path / "b.json"
    used = 0
    for place in places(whole):
        for new in FOREIGN[::3]:
            path.write_text(json.dumps(replaced(whole, place, new)))
            with suppress(UsageError):
                found = bench.read(path)
                list(comparison(found, found))
                used += 1
    assert used


class _Stored:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, *_: object) -> bytes:
        return self.content


def test_every_foreign_value_in_a_remembered_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"milliseconds": {"a": 1.0}, "reasons": {"b": "c"}}
    texts = [json.dumps(replaced(whole, place, new)) for place in places(whole) for new in FOREIGN]
    for text in [*texts, "[" * 100_000, "[]", ""]:
        stored = _Stored(text.encode())
        monkeypatch.setattr(choice, "_remembered", lambda *_, stored=stored: (stored, "n", {}))
        trial = choice.recall(None, (1, 1), [])  # type: ignore[arg-type]
        assert trial is None or trial.fastest_first([]) == []


STATE: dict[str, Any] = {"recipe": "{}", "model": {}, "optimiser": {}, "step": 3, "seconds": 1.5}


@pytest.mark.parametrize(
    ("name", "new"),
    [
        (name, new)
        for name in STATE
        for new in (REMOVED, None, -1, "x", [1], torch.zeros(2))
        if name != "recipe" or not isinstance(new, str)  # a text, which is read when the run goes on
    ],
)
def test_a_checkpoint_of_another_kind_is_damaged(name: str, new: Any, tmp_path: Path) -> None:
    state = {**STATE, name: new}
    if new is REMOVED:
        del state[name]
    checkpoint.save(tmp_path, state)
    with pytest.raises(ClesrError, match=r"checkpoint\.pt is damaged"):
        checkpoint.load(tmp_path)
