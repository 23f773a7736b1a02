"""Standard error as JSON: a program that collects logs finds one object a line, and nothing else."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest
from commands import Run

from clesr.engines.common.text import conceal
from clesr.pipeline.messages import naming
from clesr.tools.common.console import speak_json, user_logging
from clesr.tools.common.stderr import stderr, wants_json

DEMO = ("--source", "demo:?size=64&frames=5", "--pace", "max", "--display", "none", "--scale", 2)
MODEL = ("--model", "nearest")
FIELDS = ["time", "level", "logger", "stream", "message"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ENTRY = "from clesr.tools.entry import live_main; live_main()"
FOREIGN = """
import logging, os, subprocess, sys, warnings
from clesr.tools.common.console import speak_json, user_logging
from clesr.tools.common.stderr import stderr
with user_logging():
    speak_json()
    os.write(2, b"of a library\\nin two lines\\n")
    warnings.warn("of Python")
    subprocess.run(["sh", "-c", "echo of a child >&2"], check=True)
    os.write(2, b"without an end")
    sys.stderr.write("printed\\n")
    if len(sys.argv) > 1:
        for _ in range(3000):
            try:
                os.write(2, b"x" * 5000 + b"\\n")
            except BlockingIOError:
                pass
    logging.getLogger("clesr.test").error("the last")
stderr.settle(20)
print("done")
"""


def objects(err: str) -> list[dict[str, Any]]:
    """The objects of standard error, each of which has the fields that it should."""
    found = [json.loads(line) for line in err.splitlines()]
    assert found
    for one in found:
        assert list(one) == FIELDS
        assert TIME.fullmatch(one["time"])
        assert one["level"] in ("debug", "info", "warning", "error")
        assert one["message"].strip()
    return found


def test_a_run_says_all_that_it_says_as_objects(run: Run) -> None:
    code, _, err = run("clesr-live", *DEMO, *MODEL, "--log", "json")
    assert code == 0
    said = {one["message"]: one for one in objects(err)}
    assert said["captured 5 frames: 5 upscaled"]["level"] == "info"
    assert said["captured 5 frames: 5 upscaled"]["logger"] == "clesr.tools.common.summary"
    assert any(message.startswith("latency, ms, total: p50 ") for message in said)
    code, _, err = run("clesr-live", *DEMO, *MODEL)
    assert not err.startswith("{"), "the next run is as it was"


def test_each_object_names_its_stream(run: Run) -> None:
    left, right = ("--source", "left=demo:?size=64&frames=5"), ("--source", "right=demo:?size=64&frames=7")
    rest = ("--pace", "max", "--display", "none", "--scale", 2, "--share", "one", *MODEL)
    code, _, err = run("clesr-live", *left, *right, *rest, "--log=json")
    assert code == 0
    streams = {one["message"]: one["stream"] for one in objects(err)}
    assert streams["captured 5 frames: 5 upscaled"] == "left"
    assert streams["captured 7 frames: 7 upscaled"] == "right"
    assert None in streams.values()


@pytest.mark.parametrize(
    "wrong",
    [["--scale", "3"], ["--no-such-option"], ["--roi", "0,0,999,999"], ["--log", "xml"]],
    ids=" ".join,
)
def test_what_goes_wrong_is_an_object_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, wrong: list[str]
) -> None:
    monkeypatch.setenv("CLESR_LIVE_LOG", "json")
    code, _, err = run("clesr-live", *DEMO, *MODEL, *wrong)
    assert code == 2
    if "xml" in wrong:  # it is no JSON that was asked for
        assert "'xml' is not one of 'text', 'json'" in err
        return
    last = objects(err)[-1]
    assert (last["level"], last["message"].startswith("clesr: error: ")) == ("error", True)


@pytest.mark.parametrize(
    ("arguments", "environment", "program", "json_wanted"),
    [
        (["--log", "json"], {}, "clesr-live", True),
        (["--log=json"], {}, "clesr-live", True),
        (["--log", "text"], {"CLESR_LIVE_LOG": "json"}, "clesr-live", False),
        ([], {"CLESR_LIVE_LOG": "JSON"}, "clesr-live", True),
        (["upscale"], {"CLESR_LIVE_LOG": "json"}, "clesr", False),
        (["export-model"], {"CLESR_EXPORT_MODEL_LOG": "json"}, "clesr", True),
        (["--log"], {}, "clesr-live", False),
        ([], {}, "clesr", False),
    ],
)  # fmt: skip
def test_it_is_known_before_the_command_line_is_read(
    arguments: list[str], environment: dict[str, str], program: str, json_wanted: bool
) -> None:
    assert wants_json(arguments, environment, program) is json_wanted


def test_a_message_that_comes_again_and_again_is_few_lines_and_all_are_counted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    log = logging.getLogger("clesr.pipeline.test")
    with user_logging():
        speak_json()
        for _ in range(100):
            log.warning("the same")
        with naming("right"):
            log.warning("the same")
        for number in range(300):
            log.info(f"another {number}")
    assert stderr.settle()
    said = objects(capfd.readouterr().err)
    same = [one["message"] for one in said if one["message"].startswith("the same") and not one["stream"]]
    assert same == ["the same", "the same (and 98 more like that)"]
    assert sum(one["stream"] == "right" for one in said) == 1
    assert [one["message"] for one in said if "another" in one["message"]] == [
        f"another {n}" for n in range(300)
    ]


def test_no_secret_is_in_an_object(capfd: pytest.CaptureFixture[str]) -> None:
    conceal("rtsp://user:hush-hush@camera/live")
    with user_logging():
        speak_json()
        logging.getLogger("clesr.test").info("cannot read rtsp://user:hush-hush@camera/live")
        os.write(2, b"Error of a library: rtsp://user:hush-hush@camera/live\n")
    assert stderr.settle()
    err = capfd.readouterr().err
    assert len(objects(err)) == 2
    assert "hush" not in err


@pytest.mark.parametrize("flood", [False, True])
def test_what_others_write_there_is_an_object_too_and_holds_nobody_up(flood: bool) -> None:
    command = [sys.executable, "-c", FOREIGN, *["flood"] * flood]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    said = {one["message"]: one for one in objects(done.stderr)}
    for words in ("of a library", "in two lines", "of a child"):
        assert said[words]["logger"] == "clesr.stderr"
        assert said[words]["level"] == "warning"
    assert any("UserWarning: of Python" in words for words in said)
    assert any(words.endswith("printed") for words in said)
    assert said["the last"]["level"] == "error"


@pytest.mark.slow
def test_what_a_library_says_at_the_very_end_is_not_heard() -> None:
    late = "import atexit, os; atexit.register(os.write, 2, b'leaked 514 functions\\n'); "
    command = [sys.executable, "-c", late + ENTRY, *map(str, DEMO), *MODEL]
    plain, spoken = (
        subprocess.run([*command, "--log", form], capture_output=True, text=True, timeout=120, check=True)
        for form in ("text", "json")
    )
    assert plain.stderr.endswith("leaked 514 functions\n")
    assert objects(spoken.stderr)[-1]["message"] != "leaked 514 functions"


@pytest.mark.slow
def test_a_terminal_gets_no_progress_bar() -> None:
    reader, writer = pty.openpty()
    arguments = [*map(str, DEMO), *MODEL, "--log", "json"]
    process = subprocess.Popen([sys.executable, "-c", ENTRY, *arguments], stderr=writer)
    os.close(writer)
    said = b""
    try:
        while data := os.read(reader, 1 << 16):
            said += data
    except OSError:  # the end of a terminal
        pass
    os.close(reader)
    assert process.wait(60) == 0
    assert "captured 5 frames: 5 upscaled" in {one["message"] for one in objects(said.decode())}
