"""``python -m fuzz.make_corpus``: the session and the videos that targets begin with, made anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from recordings import drifting, write_video
from session_runs import PERIOD_NS, START_NS, frames, record

from clesr.pipeline.frame import Corrupt
from fuzz.targets import CORPUS
from fuzz.targets.recordings import SUFFIXES

VIDEOS = (
    ("ffv1", ".mkv", "gray"),
    ("ffv1", ".mkv", "gray16le"),
    ("libx264", ".mp4", "yuv420p"),
    ("libx265", ".mkv", "yuv420p"),
    ("mjpeg", ".avi", "yuvj420p"),
    ("mpeg2video", ".ts", "yuv420p"),
    ("libvpx-vp9", ".webm", "yuv420p"),
)


def session() -> None:
    """Six frames, one of them damaged, and two that were lost."""
    folder = CORPUS / "session"
    shutil.rmtree(folder, ignore_errors=True)
    record(
        folder,
        [*frames(range(3)), Corrupt(3, START_NS + 3 * PERIOD_NS, "torn"), *frames(range(6, 9), np.uint8)],
    )


def videos() -> Iterator[tuple[str, bytes]]:
    """Names and contents of the seeds of ``video``."""
    images = drifting(8, (48, 64))
    path = CORPUS / "made"
    for codec, suffix, pixels in VIDEOS:
        made = path.with_suffix(suffix)
        deep = pixels == "gray16le"
        write_video(
            made,
            [image.astype(np.uint16) << 8 for image in images] if deep else images,
            codec=codec,
            pixel_format=pixels,
            options={"g": "4"},
        )
        yield f"seed-{codec}-{pixels}", bytes([3 * SUFFIXES.index(suffix)]) + made.read_bytes()
        made.unlink()


def packets(path: Path) -> Iterator[bytes]:
    """Those of the video in a session."""
    with av.open(path) as container:
        yield from (bytes(packet) for packet in container.demux(video=0) if packet.size)


def main() -> None:
    session()
    for name in ("video", "ffv1"):
        (CORPUS / name).mkdir(exist_ok=True)
        for old in (CORPUS / name).glob("seed-*"):
            old.unlink()
    for name, content in videos():
        (CORPUS / "video" / name).write_bytes(content)
    for number, packet in enumerate(packets(CORPUS / "session" / "raw.mkv")):
        if number < 3:
            (CORPUS / "ffv1" / f"seed-{number}").write_bytes(packet)


if __name__ == "__main__":
    main()
