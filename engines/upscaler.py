"""Arrays up-scaled in programs of one's own, and the models that there are for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Image
from clesr.engines.engine import Engine, EngineInfo
from clesr.engines.models.weights import Descriptor, read_descriptor, shipped
from clesr.engines.opener import EngineOpener
from clesr.engines.results import collect_checked

BUSY = "a stream of this Upscaler is not at its end; take all of its images first, or use another Upscaler"
PATIENCE_FPS = 2.0  # that the best model must reach to be taken by "auto"


def upscale(
    image: NDArray[Any],
    scale: int = 4,
    model: str = "auto",
    *,
    engine: str = "auto",
    device: str | None = None,
    precision: str | None = None,
) -> Image:
    """The super-resolved image of ``image``: (H, W) uint8 or uint16 gives (scale * H, scale * W) of the same dtype.

    The keywords are those of ``Upscaler``, which is faster for more than one image: this opens an engine each time.
    Raises what ``Upscaler`` raises. ::

        sr = clesr.upscale(np.zeros((128, 128), np.uint8), scale=4)
        assert sr.shape == (512, 512)
    """
    with Upscaler(scale, model, engine=engine, device=device, precision=precision) as upscaler:
        return upscaler(image)


class Upscaler:
    """Up-scales images one after the other with an engine that stays open; a context manager.

    ``scale`` is 2, 4 or 8. ``model`` is the name of a model (``models()``), the path of a .safetensors file, an
    interpolation (bicubic, bilinear, nearest), or ``auto``: the best that does ``fps`` images a second, by a trial at
    the first image. ``engine``, ``device`` and ``precision`` narrow the choice of what computes (``engines()``),
    ``threads`` is the number of CPU threads. What was taken and why is logged.

    The engine is opened at the first image, and again where an image has another shape. One thread uses it. ::

        with clesr.Upscaler(scale=4, model="fast") as upscaler:
            sr = upscaler(image)

    Raises UsageError for names that do not exist or do not go together and for arrays that are no image, WeightsError
    for a file that is no model, EngineError where no engine starts, or one fails on an image.
    """

    def __init__(
        self,
        scale: int = 4,
        model: str = "auto",
        *,
        engine: str = "auto",
        device: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        fps: float = PATIENCE_FPS,
    ) -> None:
        if type(scale) is not int:
            raise UsageError(f"scale {scale!r} is no whole number; give 2, 4 or 8")
        self.scale = scale
        options = {"device": device, "precision": precision, "threads": threads}
        self._opener = EngineOpener(scale, model, engine, fps=fps, **options)
        self._engine: Engine | None = None
        self._streaming = False

    def __call__(self, image: NDArray[Any]) -> Image:
        """The super-resolved image of ``image``: (H, W) uint8 or uint16 gives (scale * H, scale * W), same dtype."""
        (result,) = self.stream((image,))
        return result

    def stream(self, images: Iterable[NDArray[Any]]) -> Iterator[Image]:
        """The super-resolved images of ``images``, in their order. The next are on their way while one is computed,
        as many as the engine takes, so that this is faster than one call after the other.

        Each image is copied: its memory may be used again for the next. One stream at a time: before its end another
        one, or a call, raises UsageError. Where ``images`` raises, the results of those before come first. Where not
        all results are taken, the engine is closed, and opened again for the next image.
        """
        if self._streaming:
            raise UsageError(BUSY)
        self._streaming = True
        waiting: deque[Image] = deque()
        failure: Exception | None = None
        arrays = iter(images)
        try:
            while True:
                try:
                    lr = _copied(next(arrays))
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001 - raised again after the results of what came before
                    failure = error
                    break
                while waiting and (waiting[0].shape != lr.shape or len(waiting) >= self._opened.depth):
                    yield collect_checked(self._opened, waiting.popleft(), self.scale)
                if self._engine is None or self._engine.info.lr_shape != lr.shape:
                    self.close()
                    self._engine = self._opener((lr.shape[0], lr.shape[1]))
                self._engine.submit(lr)
                waiting.append(lr)
            while waiting:
                yield collect_checked(self._opened, waiting.popleft(), self.scale)
            if failure is not None:
                raise failure
        finally:
            self._streaming = False
            if waiting:  # not everything was taken, or something broke: the rest is given up with the engine
                self.close()

    @property
    def info(self) -> EngineInfo | None:
        """The engine that is open: its name, device, precision and model; None before the first image."""
        return None if self._engine is None else self._engine.info

    def close(self) -> None:
        """Free the device; the next image would open an engine again. May be called twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _opened(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the Upscaler was closed while images were on their way")
        return self._engine


def _copied(image: NDArray[Any]) -> Image:
    if not isinstance(image, np.ndarray) or image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        what = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        colour = isinstance(image, np.ndarray) and image.ndim == 3
        hint = "convert it to gray first" if colour else "convert it first"
        raise UsageError(f"an image is an array (H, W) of uint8 or uint16, not {what}; {hint}")
    copied = np.array(image, order="C")
    copied.flags.writeable = False
    return copied


def models() -> list[Descriptor]:
    """The models that ship with clesr: name, scale, architecture, and the figures on the test set of each.

    The figures are those of the model card. ::

        for model in clesr.models():
            print(model.name, model.scale, model.metrics.get("test_gain_db"))
    """
    return [read_descriptor(path) for path in shipped().values()]
