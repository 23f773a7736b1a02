"""What a command may miss around it: a home folder, a terminal that knows every character."""

from __future__ import annotations

import os
import subprocess
import sys

import platformdirs
import pytest

from clesr.engines.cache import cache_folder
from clesr.engines.common.errors import UsageError
from clesr.tools import cli

ENTRY = "from clesr.tools.entry import main; main()"


def test_help_on_a_terminal_that_knows_ascii_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, "live", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--record" in done.stdout


@pytest.mark.slow
def test_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_name: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_config_dir", nowhere)
    monkeypatch.setattr(platformdirs, "user_cache_dir", nowhere)
    monkeypatch.delenv("CLESR_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "argv", ["clesr", "models"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    with pytest.raises(UsageError, match="set CLESR_CACHE_DIR"):
        cache_folder()
