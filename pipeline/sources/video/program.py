"""Protocols that PyAV's FFmpeg lacks (SRT): received by an ``ffmpeg`` program, where one is installed that has them."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import av

from clesr.engines.common.errors import SourceError
from clesr.engines.common.text import shown
from clesr.engines.common.waiting import readable

PROGRAM = "ffmpeg"
LACKING = ("srt",)  # of the protocols that are sources
FORMAT = "mpegts"  # in which the program hands over what comes, unchanged
_ANSWER_S = 10.0


def needs_program(address: str) -> bool:
    return urlsplit(address).scheme in LACKING


class Received:
    """What ``address`` sends, as a file that PyAV reads; ``close`` ends the program. A silence of ``timeout`` seconds
    is its end. Raises SourceError where there is no such program, or it does not know the protocol."""

    name = PROGRAM

    def __init__(self, address: str, timeout: float) -> None:
        scheme = urlsplit(address).scheme
        if scheme not in protocols():
            raise SourceError(
                f"{shown(address)}: PyAV's FFmpeg has no {scheme.upper()}, and there is no {PROGRAM} program that has; "
                f"install one (apt install ffmpeg), or send by RTSP or UDP"
            )
        self._timeout = timeout
        copied = ["-map", "0:v", "-c", "copy", "-copyts", "-flush_packets", "1", "-f", FORMAT, "pipe:1"]
        self._process = subprocess.Popen(
            [PROGRAM, "-v", "quiet", "-nostdin", "-fflags", "nobuffer", "-i", address, *copied],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process, which then closes it
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end, and after ``timeout`` seconds without."""
        if self._process.returncode is None and readable(self._output, self._timeout):
            return os.read(self._output, size)
        return b""

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def ending(container: av.container.InputContainer) -> Iterator[None]:
    """Closes ``container`` at the end of the block, and ends the program that it is read from, where there is one."""
    received = getattr(container.file, "file", None)
    try:
        with container:
            yield
    finally:
        if isinstance(received, Received):  # PyAV closes no file that it reads
            received.close()


@functools.cache
def protocols() -> frozenset[str]:
    """Those of the program; none without one."""
    if shutil.which(PROGRAM) is None:
        return frozenset()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [PROGRAM, "-v", "quiet", "-protocols"]
        listed = subprocess.run(
            command, capture_output=True, text=True, timeout=_ANSWER_S, check=False
        ).stdout
        return frozenset(listed.partition("Output:")[0].split())
    return frozenset()
