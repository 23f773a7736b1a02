"""No test waits for ever: a wait that never ends would take its whole worker along, without a word."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from waits import joined, line_from

FOLDER = Path(__file__).parent
RUNS = {f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output")}


def endless(text: str) -> Iterator[str]:
    """The calls in a program that wait for as long as it takes: for threads, events, processes and their lines."""
    for call in ast.walk(ast.parse(text)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        name, given = call.func.attr, {keyword.arg for keyword in call.keywords}
        whole = ast.unparse(call.func)
        if (
            (name in ("join", "wait") and not call.args and not given)
            or (name == "communicate" and len(call.args) < 2 and "timeout" not in given)
            or (name == "readline" and re.search(r"(?<!self)\.std(out|err)\.", whole))
            or (whole in RUNS and "timeout" not in given)
        ):
            yield f"line {call.lineno}: {whole}"


@pytest.mark.parametrize(
    "wait",
    ["thread.join()", "event.wait()", "process.communicate()", "process.communicate('x')",
     "process.stdout.readline()", "subprocess.run(command, check=True)"],
)  # fmt: skip
def test_a_wait_without_limit_is_found(wait: str) -> None:
    assert len(list(endless(f"if x:\n    y = {wait}"))) == 1


@pytest.mark.parametrize(
    "wait",
    ["thread.join(60)", "' '.join(words)", "event.wait(timeout=3)", "process.communicate('x', 60)",
     "file.readline()", "subprocess.run(command, timeout=9)"],
)  # fmt: skip
def test_others_are_not(wait: str) -> None:
    assert list(endless(wait)) == []


@pytest.mark.slow
def test_every_wait_of_the_tests_has_a_limit() -> None:
    """Those of a cluster (`executor.wait`) have theirs in the product; that of a card (`slot.wait`) is a fake."""
    found = {
        str(path.relative_to(FOLDER)): [
            line for line in endless(path.read_text()) if not re.search(r"(executor|slot)\.", line)
        ]
        for path in FOLDER.rglob("*.py")
        if path.name not in ("waits.py", "session_child.py")  # the limits themselves; a child that is killed
    }
    assert {path: lines for path, lines in found.items() if lines} == {}, "see tests/helpers/waits.py"


def test_what_does_not_come_in_time_fails_with_words() -> None:
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait, args=(60,), name="the sleeper")
    thread.start()
    with pytest.raises(AssertionError, match=r"the sleeper still runs after 0\.01 s"):
        joined(thread, seconds=0.01)
    ending.set()
    joined(thread)
    with Popen(["cat"], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        with pytest.raises(AssertionError, match=r"said nothing for 0\.01 s"):
            line_from(process.stdout, seconds=0.01)
        process.stdin.close()  # ends the reader that still waits
