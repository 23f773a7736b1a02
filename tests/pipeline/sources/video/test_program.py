"""Streams that an ffmpeg program receives for clesr."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from recordings import drifting, write_video

from clesr.engines.common.errors import SourceError
from clesr.pipeline.frame import Frame
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.video import program


def test_without_a_program_that_has_it_a_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "protocols", lambda: frozenset({"udp"}))
    with pytest.raises(
        SourceError, match="has no SRT, and there is no ffmpeg program that has; install one"
    ) as raised:
        open_source("srt://127.0.0.1:9999?passphrase=secret-words")
    assert "secret-words" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_program_at_all_has_no_protocols(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program.protocols.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.protocols() == frozenset()
    program.protocols.cache_clear()


@contextmanager
def sender(path: Path, port: int) -> Iterator[None]:
    address = f"srt://127.0.0.1:{port}?mode=listener"
    looped = ["-re", "-stream_loop", "-1", "-i", str(path), "-c", "copy", "-f", "mpegts", address]
    with subprocess.Popen(["ffmpeg", "-v", "quiet", *looped], stdin=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@pytest.mark.slow
def test_srt_is_received(tmp_path: Path) -> None:
    if "srt" not in program.protocols():
        pytest.skip("no ffmpeg program with SRT is installed")
    images = drifting(50, (48, 64))
    options = {"qp": "4", "g": "5", "preset": "ultrafast"}
    write_video(tmp_path / "a.ts", images, codec="libx264", pixel_format="yuv420p", options=options)
    port = free_port()
    with sender(tmp_path / "a.ts", port):
        for _ in range(20):  # the sender listens when it is ready
            try:
                source = open_source(f"srt://127.0.0.1:{port}", timeout=5.0)
                break
            except SourceError:
                continue
        else:
            pytest.fail("the sender was never heard")
        with closing(source):
            assert source.info.live
            assert source.info.shape == (48, 64)
            for _ in range(20):
                frame = source.read(5.0)
                assert isinstance(frame, Frame), frame
                assert min(np.abs(frame.image.astype(int) - image).mean() for image in images) < 4
