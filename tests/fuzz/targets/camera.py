"""A camera's buffers, in every pixel format: a first byte that says which, a second one what else is known of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from random import Random

import av
import cv2
import numpy as np

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.sources.v4l2.jpeg import Damaged
from clesr.pipeline.sources.v4l2.pixels import FORMATS, BufferDecoder
from fuzz.mutations import flip
from fuzz.target import Target

SIZE = (64, 48)
LEVELS = ("auto", "full", "limited")
HEAD = 2  # bytes in front of the buffer


class Camera(Target):
    allowed = (ClesrError, Damaged)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._decoders: dict[tuple[int, int], BufferDecoder] = {}

    def seeds(self) -> list[bytes]:
        smooth = np.add.outer(np.arange(SIZE[1]), 3 * np.arange(SIZE[0])).astype(np.uint8)
        coded = {"mjpeg": _fields(smooth), "h264": _video(smooth)}
        raw = np.random.default_rng(0).bytes(4 * SIZE[0] * SIZE[1])
        return [
            bytes([number, 7 * number % 256]) + coded.get(known.kind, raw)
            for number, known in enumerate(FORMATS)
        ]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        head = data[:HEAD] if rng.random() < 0.9 else bytes(int(rng.random() * 256) for _ in range(HEAD))
        return head + flip(rng, data[HEAD:])

    def run(self, data: bytes) -> None:
        head = data[:HEAD].ljust(HEAD, b"\0")
        key = head[0] % len(FORMATS), head[1]
        if key not in self._decoders:
            known = FORMATS[key[0]]
            stride = 0 if known.step == 0 else known.line(SIZE[0]) + key[1] % 40
            self._decoders[key] = BufferDecoder(known, SIZE, stride, LEVELS[key[1] % len(LEVELS)])
        image = self._decoders[key].decode(data[HEAD:])
        assert image.shape == SIZE[::-1]


def _fields(image: np.typing.NDArray[np.uint8]) -> bytes:
    """One JPEG image for each field, as some cameras send them."""
    fields = []
    for polarity, lines in ((1, image[::2]), (2, image[1::2])):
        coded = cv2.imencode(".jpg", np.ascontiguousarray(lines))[1].tobytes()
        mark = b"\xff\xe0\x00\x10AVI1" + bytes([polarity, 0]) + bytes(8)
        fields.append(coded[:2] + mark + coded[2:])
    return b"".join(fields)


def _video(image: np.typing.NDArray[np.uint8]) -> bytes:
    context = av.VideoCodecContext.create("libx264", "w")
    context.height, context.width, context.pix_fmt = *image.shape, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"preset": "ultrafast", "tune": "zerolatency"}
    frame = av.VideoFrame.from_ndarray(image, "gray").reformat(format="yuv420p")
    return b"".join(bytes(packet) for part in (frame, None) for packet in context.encode(part))
