"""What the tests of the commands share."""

from __future__ import annotations

import pytest
from commands import Run

from clesr.tools import cli


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit status, standard output, standard error."""

    def invoke(command: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [command, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            (cli.live_main if command == "clesr-live" else cli.main)()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return invoke
