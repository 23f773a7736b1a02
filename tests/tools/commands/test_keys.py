"""`clesr keys`: pairs that zmq.auth reads, for their owner alone, and never in the place of others."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import zmq
import zmq.auth
from commands import Run, one_line


def test_a_pair_is_made_for_its_owner_alone(run: Run, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        code, _, err = run("clesr", "keys", tmp_path / "scanner.left")
    finally:
        os.umask(old)
    assert code == 0, err
    public, secret = (tmp_path / f"scanner.left{suffix}" for suffix in (".key", ".key_secret"))
    assert sorted(tmp_path.iterdir()) == [public, secret]
    assert [file.stat().st_mode & 0o777 for file in (public, secret)] == [0o600, 0o600]
    key, nothing = zmq.auth.load_certificate(public)
    again, private = zmq.auth.load_certificate(secret)
    assert (key, nothing) == (again, None)
    assert private is not None
    assert zmq.curve_public(private) == key
    assert re.findall(r"wrote (\S+):", err) == [str(public), str(secret)]
    assert private.decode() not in err


@pytest.mark.parametrize("suffix", [".key", ".key_secret"])
def test_keys_that_exist_stay_and_nothing_is_half_made(suffix: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_text("precious")
    code, _, err = run("clesr", "keys", tmp_path / "a")
    assert code == 1
    assert f"a{suffix} exists, and keys are never replaced; give another name" in one_line(err)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]
    assert (tmp_path / f"a{suffix}").read_text() == "precious"


def test_a_folder_is_made_and_one_that_cannot_be_is_one_line(run: Run, tmp_path: Path) -> None:
    code, _, err = run("clesr", "keys", tmp_path / "readers" / "a")
    assert code == 0, err
    assert sorted(file.name for file in (tmp_path / "readers").iterdir()) == ["a.key", "a.key_secret"]
    code, _, err = run("clesr", "keys", tmp_path / "readers" / "a.key" / "b")
    assert code == 1
    assert "cannot be written" in one_line(err)
