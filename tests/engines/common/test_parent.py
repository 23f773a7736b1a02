"""A process ends with the one that started it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from waits import line_from

BEGIN = "from clesr.engines.common.parent import end_with_parent; end_with_parent(); print(flush=True); "


@pytest.mark.parametrize(
    "hangs",
    [
        "import time; time.sleep(600)",
        "import ctypes; ctypes.PyDLL(None).sleep(600)",
        "import re; re.match('(a*)*b', 'a' * 99)",
    ],
    ids=["waiting", "in native code that keeps Python's lock", "computing with it"],
)
def test_it_ends_with_its_parent_whatever_it_does(hangs: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", BEGIN + hangs], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdin is not None
        assert line_from(child.stdout) == b"\n"
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(60) != 0
    finally:
        child.kill()
        child.wait(60)
        assert child.stdout is not None
        child.stdout.close()


def test_one_whose_parent_has_ended_before_ends_too() -> None:
    child = subprocess.run(
        [sys.executable, "-c", BEGIN + "import time; time.sleep(600)"], input=b"", timeout=60
    )
    assert child.returncode != 0
