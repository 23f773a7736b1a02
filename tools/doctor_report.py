"""What this machine has, what would run on it, what to install."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import tempfile
import threading
from collections.abc import Iterator
from logging.handlers import BufferingHandler
from pathlib import Path

import av
import numpy as np
import torch

from clesr import __version__
from clesr.engines.backends.cuda.buffers import page_locked_memory
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import ClesrError, SinkError
from clesr.engines.common.packages import version_of
from clesr.engines.common.processor import core_count, cpu_name
from clesr.engines.factory import engines, open_engine, why_not
from clesr.engines.gpu import PROVEN
from clesr.engines.models.weights import Model, find_model, shipped
from clesr.pipeline.sinks.window.process import screen_size
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.video.encoding import Encoding, choose_encoding
from clesr.pipeline.video.hardware_decoding import BY_HARDWARE
from clesr.pipeline.video.hardware_encoding import by_hardware, write_pattern
from clesr.tools.common.console import handled
from clesr.tools.data.images import frames_of

PACKAGES = ("torch", "openvino", "numpy", "av", "opencv-python", "pyzmq", "linuxpy", "tifffile")
EXAMPLE = (128, 128)
SCREEN_S = 5.0  # that the X server may take to answer
TRIED = (288, 384)  # video that is tried in hardware: cards refuse very small pictures


def report() -> Iterator[str]:
    """The lines of the report."""
    yield f"clesr {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    yield f"processor: {cpu_name()}, {core_count()} cores for clesr"
    said = (f"{name} {version_of(name) or f'missing (pip install {name})'}" for name in PACKAGES)
    yield f"packages: {', '.join(said)}"
    yield ""
    yield from _engines()
    yield from _nvidia()
    yield ""
    yield from _cameras()
    yield _display()
    yield from _codecs()
    yield from _hardware()


def _engines() -> Iterator[str]:
    """Every engine, tried on an example, and the one that would run it."""
    if not shipped():
        yield from (_engine(candidate, candidate.reason) for candidate in engines())
        yield "--  no weights are installed; train some with `clesr train`"
        return
    model = find_model("fast", 4)
    for candidate in engines():
        yield _engine(candidate, why_not(candidate, model, EXAMPLE))
    yield from _would_run(model)


def _engine(candidate: EngineCandidate, reason: str) -> str:
    if not reason:
        return f"ok  engine {candidate}"
    said = not candidate.install or candidate.install in reason
    install = "" if said else f" (with one: {candidate.install})"
    return f"--  engine {candidate}: {reason}{install}"


def _would_run(model: Model) -> Iterator[str]:
    try:
        engine = open_engine("auto", model, 4, EXAMPLE)
    except ClesrError as error:
        yield f"--  no engine starts: {error}"
        return
    engine.close()
    yield f"    {engine.info.choice}"


def _nvidia() -> Iterator[str]:
    """Where there is an NVIDIA card: what has run on one, and what images cross to it through."""
    if torch.cuda.is_available():
        yield f"    {PROVEN}"
        yield f"    page-locked memory for the card: {page_locked_memory()}"


def _cameras() -> Iterator[str]:
    nodes = sorted(Path("/dev").glob("video*"))
    if not nodes:
        yield "--  no camera: there is no /dev/video*; try --source demo:"
        return
    for node in nodes:
        readable = os.access(node, os.R_OK | os.W_OK)
        yield f"ok  camera {node}" if readable else f"--  camera {node}: no access; join the group `video`"


def _display() -> str:
    found = [f"--  the display {os.environ.get('DISPLAY', '')} does not answer within {SCREEN_S:.0f} s"]

    def ask() -> None:
        try:
            screen_size()
            found.append("ok  display")
        except SinkError as error:
            found.append(f"--  {error}")

    asking = threading.Thread(target=ask, daemon=True)  # an X server may take a connection and say nothing
    asking.start()
    asking.join(SCREEN_S)
    return found[-1]


def _codecs() -> Iterator[str]:
    for label, name in {"H.264": "libx264", "HEVC": "libx265", "FFV1": "ffv1"}.items():
        missing = f"--  {label}: this PyAV has no encoder for it"
        yield f"ok  {label}: {name}" if name in av.codecs_available else missing


def _hardware() -> Iterator[str]:
    """What graphics cards can do with video, tried on a few images."""
    said = BufferingHandler(1000)  # what is logged of video: for the report, in place of standard error
    for label, codec in {"H.264": "h264", "HEVC": "hevc"}.items():
        try:
            encoding = choose_encoding(codec, ".mp4", np.dtype(np.uint8), TRIED)
            with handled(logging.getLogger("clesr.pipeline.video"), said):
                _decode(encoding)
                line = said.buffer[-1].getMessage()
                yield f"{'ok' if line.startswith(BY_HARDWARE) else '--'}  {label}: {line}"
                encodes = by_hardware("gpu", encoding, TRIED).hardware
                yield f"{'ok' if encodes else '--'}  {label}: {said.buffer[-1].getMessage()}"
        except (ClesrError, av.FFmpegError) as error:
            yield f"--  {label} in hardware cannot be tried: {error}"


def _decode(encoding: Encoding) -> None:
    """Decode a short video of ``encoding`` to its end, by a card where one can."""
    with tempfile.TemporaryDirectory(prefix="clesr-") as folder:
        path = Path(folder) / "trial.mp4"
        write_pattern(path, encoding, TRIED)
        with contextlib.closing(open_source(str(path), pace="max", decode="gpu")) as source:
            for _ in frames_of(source):
                pass
