"""clesr tells nobody anything: in a namespace without network, nothing even tries to reach another machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

LOGGER = Path(__file__).parent / "helpers" / "network_log.c"
OPENS_AN_ENGINE = (
    "import numpy as np\n"
    "from clesr.engines.factory import open_engine\n"
    "engine = open_engine('openvino', 'fast', 2, (64, 64))\n"
    "engine.submit(np.zeros((64, 64), np.uint8))\n"
    "assert engine.collect().shape == (128, 128)\n"
    "engine.close()\n"
)
TRIES_TO_SEND = "import socket; socket.create_connection(('192.0.2.1', 443), 1)"

Attempts = Callable[..., list[str]]


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    """Runs Python with arguments, and gives what tried to reach the network; the home folder is empty before."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the logger with; install gcc or clang")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("this machine permits no network namespace (unshare --net)")
    library, log, home = tmp_path / "log.so", tmp_path / "log", tmp_path / "home"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, LOGGER, "-ldl"], check=True, timeout=60
    )
    home.mkdir()
    log.touch()
    kept = {
        name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")
    }
    environment = kept | {"LD_PRELOAD": str(library), "NETWORK_LOG": str(log), "HOME": str(home)}

    def run(*arguments: str | Path, succeeds: bool = True) -> list[str]:
        done = subprocess.run(
            ["unshare", "--net", sys.executable, *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert (done.returncode == 0) == succeeds, done.stderr
        assert [path.name for path in home.iterdir() if path.name != ".cache"] == []
        return log.read_text().splitlines()

    return run


def test_an_attempt_would_be_seen(attempts: Attempts) -> None:
    assert "connect IPv4" in attempts("-c", TRIES_TO_SEND, succeeds=False)


@pytest.mark.slow  # what up-scales opens one as well
def test_opening_an_engine_sends_nothing(attempts: Attempts) -> None:
    assert attempts("-c", OPENS_AN_ENGINE) == []


@pytest.mark.slow
def test_upscaling_sends_nothing(attempts: Attempts, tmp_path: Path) -> None:
    made = tmp_path / "sr.mkv"
    run = "import sys; from clesr.tools.cli import main; sys.argv[0] = 'clesr'; main()"
    source = "demo:?size=64&frames=3&pace=max"
    words = ["upscale", source, "-o", str(made), "--model", "fast", "--scale", "2", "--engine", "openvino"]
    assert attempts("-c", run, *words) == []
    assert made.stat().st_size
