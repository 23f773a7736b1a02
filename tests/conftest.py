"""What all tests share: the data folder, and CI's rule that nothing is skipped."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

ALLOWED = ("cuda", "hardware")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real CLE images and video; skips where CLESR_DATA is not set."""
    folder = os.environ.get("CLESR_DATA")
    if not folder:
        pytest.skip("CLESR_DATA is not set: it names the folder of real images and video")
    return Path(folder)


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
