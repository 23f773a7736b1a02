"""What all tests share: the data folder, how fast a machine must be (not at all), CI's rule that nothing is skipped."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from commands import Run

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # beside other processes of tests, threads of torch only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # machines for the tests marked cuda have pytest alone
    pass
else:
    # without a database: whoever runs the tests may not be able to write beside them
    settings.register_profile(
        "clesr", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("clesr")

ALLOWED = ("cuda", "hardware")
FREEZER = Path(__file__).parent / "helpers" / "fake_disk" / "freeze.c"
FAKE_V4L2 = Path(__file__).parent / "helpers" / "fake_v4l2"


def pytest_collection_finish() -> None:
    """What all tests share stays to the end: no collection of garbage during a test looks through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """A library that gives the process real-time priority starves all that the tests start."""
    yield
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER, "the test left real-time priority behind"


@pytest.fixture(autouse=True)
def _nothing_concealed() -> Iterator[None]:
    """What one test's addresses kept secret is no secret of the next one's."""
    yield
    module = sys.modules.get("clesr.engines.common.text")
    if module is not None:
        module._concealed.clear()


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """Who listens to one test hears nothing of the next one."""
    yield
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("clesr")]:
        logger = logging.getLogger(name)
        logger.handlers[:] = [each for each in logger.handlers if isinstance(each, logging.NullHandler)]
        if (
            logger.level != logging.NOTSET
        ):  # setting it is slow: each logger then forgets what it has looked up
            logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real CLE images and video; skips where CLESR_DATA is not set."""
    folder = os.environ.get("CLESR_DATA")
    if not folder:
        pytest.skip("CLESR_DATA is not set: it names the folder of real images and video")
    return Path(folder)


@pytest.fixture(scope="session")
def gpu() -> str:
    """The name of the NVIDIA GPU. Without one the test is skipped, or fails where CLESR_REQUIRE_CUDA is set."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if os.environ.get("CLESR_REQUIRE_CUDA") == "1":
        pytest.fail("CLESR_REQUIRE_CUDA is 1 and torch finds no NVIDIA GPU")
    pytest.skip("torch finds no NVIDIA GPU")


@pytest.fixture(scope="session")
def fake_v4l2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that is a camera when it is preloaded: tests/helpers/fake_v4l2/README.md."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the fake camera with; install gcc or clang")
    built = tmp_path_factory.mktemp("fake_v4l2") / "libfake_v4l2.so"
    sources = sorted(str(path) for path in FAKE_V4L2.glob("*.c"))
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(built), *sources, "-ldl", "-lpthread"]
    subprocess.run(command, check=True, timeout=60)
    return built


@pytest.fixture(scope="session")
def freezer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a disk hang when it is preloaded: tests/helpers/fake_disk/freeze.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the freezing disk with; install gcc or clang")
    built = tmp_path_factory.mktemp("fake_disk") / "libfreeze.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", built, FREEZER, "-ldl"], check=True, timeout=60
    )
    return built


@pytest.fixture
def few_phantoms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fidelity limit of trained weights from 2 phantoms, not 20, which take seconds to draw."""
    monkeypatch.setattr("clesr.tools.training.validate.PHANTOMS", range(1_000_000, 1_000_002))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit status, standard output, standard error."""
    from clesr.tools import cli

    # On a slow machine a command may end without an engine that is still being opened; these tests go on.
    monkeypatch.setattr("os._exit", sys.exit)

    def invoke(command: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [command, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            (cli.live_main if command == "clesr-live" else cli.main)()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return invoke


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, None]:
    """With CLESR_FORBID_SKIPS set a skipped test fails, unless it needs a GPU or other hardware."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CLESR_FORBID_SKIPS"):
        if any(item.get_closest_marker(name) for name in ALLOWED):
            return
        report.outcome = "failed"
        report.longrepr = f"skipped, which is forbidden here: {report.longrepr}"
