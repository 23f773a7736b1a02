"""What files, sessions and peers say steers no terminal."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from commands import Run
from recordings import drifting, write_video
from session_runs import frames, record
from waits import joined
from zmq_peers import peer_context

from clesr.pipeline.display.text import fitting
from clesr.pipeline.session.format import format_manifest
from clesr.pipeline.session.reader import read_session
from clesr.tools.common.console import user_logging
from clesr.tools.common.stderr import stderr

EVIL = "\x1b]0;x\x07\x1b[31m\u202e\nclesr: error: forged"
SPELLED = r"\x1b]0;x\x07\x1b[31m\u202e\nclesr: error: forged"
LIVE = ("--scale", 2, "--model", "nearest", "--display", "none", "--pace", "max")
FORBIDDEN = ("\x1b", "\x07", "\u202e", "\nclesr: error: forged")


def harmless(*texts: str) -> bool:
    return not any(bad in text for text in texts for bad in FORBIDDEN)


def test_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with user_logging():
        logging.getLogger("clesr.test").info(f"broken: {EVIL} [bold]:bomb: \udcff")
    assert stderr.settle()
    assert capfd.readouterr().err == f"broken: {SPELLED} [bold]:bomb: \\udcff\n"


def test_names_of_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{EVIL}.mkv"
    write_video(tmp_path / name, drifting(3, (32, 48)))
    (tmp_path / f"{EVIL}.png").write_bytes(b"broken")
    for words in (
        ("clesr", "info", name),
        ("clesr", "info", f"{EVIL}.png"),
        ("clesr", "info", f"missing {EVIL}"),
        ("clesr", "upscale", name, f"{EVIL}.png", *LIVE[:4], "-o", "results"),
        ("clesr", "export", name, "-o", f"{EVIL}.mp4"),
        ("clesr-live", "--source", name, *LIVE, "--output", f"{EVIL}.mp4", "--overwrite"),
        ("clesr-live", "--source", name, *LIVE, "--output", f"{EVIL}.mp4", "--debug"),
        ("clesr", "verify", f"{EVIL}.png"),
        ("clesr", "models", f"{EVIL}.safetensors"),
        ("clesr", EVIL),
    ):
        code, out, err = run(*words)
        assert code in (0, 1, 2)
        assert harmless(out, err), (words, out, err)


def test_fields_of_sessions(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    record(folder, frames(range(4)))
    info = replace(read_session(folder).info, source=EVIL, model=EVIL, ended=EVIL, device=EVIL, engine=EVIL)
    (folder / "session.json").write_bytes(format_manifest(info))
    for words in (
        ("clesr", "verify", folder),
        ("clesr", "info", folder),
        ("clesr", "info", folder, "--json"),
        ("clesr", "replay", folder, *LIVE),
        ("clesr", "render", folder),
        ("clesr", "export", folder, "-o", tmp_path / "a.mp4", "--keep-metadata"),
    ):
        code, out, err = run(*words)
        assert code in (0, 1, 2)
        assert harmless(out, err), (words, out, err)


@pytest.mark.slow
def test_headers_of_peers(run: Run) -> None:
    header = {"version": 1, "shape": [8, 8], "dtype": EVIL, "number": 0, "time_ns": 0, "stream": EVIL}
    with peer_context() as context, context.socket(zmq.PUSH) as sender:
        port = sender.bind_to_random_port("tcp://127.0.0.1")
        ended = threading.Event()

        def send() -> None:
            for number in range(1000):
                for damaged in (header, header | {"dtype": "uint8", "shape": EVIL}, header | {EVIL: EVIL}):
                    parts = [json.dumps(damaged | {"number": number}).encode(), bytes(64)]
                    try:
                        sender.send_multipart(parts)
                    except zmq.Again:
                        return
                    if ended.is_set():
                        return

        thread = threading.Thread(target=send)
        thread.start()
        address = f"zmq+tcp://127.0.0.1:{port}?socket=pull"
        _, out, err = run("clesr-live", "--source", address, *LIVE[:6], "--frames", 3, "--seconds", 2)
        ended.set()
        joined(thread)
    assert "corrupt" in err
    assert harmless(out, err), err


def test_words_in_the_window() -> None:
    assert fitting(EVIL, 12, 10**6) == SPELLED
