"""The one door through which an engine's images come: what it gives is looked at before anybody uses it.

An engine may be foreign code, or fail in ways of its own. What is wrong raises EngineError with what came and what
should have come.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np

from clesr.engines.common.errors import ClesrError, EngineError, UsageError, first_line
from clesr.engines.common.image import Image
from clesr.engines.engine import Engine, EngineInfo, GuidedEngine, SelfChecking
from clesr.engines.guidance import Guidance

MOST_PIXELS = 2**28  # of an SR image: 16384x16384, with which the path takes some gigabytes
MOST_DB = 1e6  # what a fidelity limit lies within
LONGEST_TEXT = 1000  # characters of what an engine says of itself
MOST_SIDE = 2**17  # pixels of an SR image in a line: what is kept for each line is about a kilobyte a pixel


def submit(engine: Engine, lr: Image, guidance: Guidance | None) -> None:
    """Submit ``lr``, and ``guidance`` to an engine that takes it."""
    if guidance is None or not engine.info.levels:
        engine.submit(lr)
    else:
        cast(GuidedEngine, engine).submit(lr, guidance)


def run_frame(engine: Engine, lr: Image, guidance: Guidance | None = None) -> Image:
    """The SR image of ``lr`` (H, W), with nothing else in flight; raises what the engine raises, and EngineError."""
    submit(engine, lr, guidance)
    return collect_checked(engine, lr, engine.info.scale)


def collect_checked(engine: Engine, lr: Image, scale: int) -> Image:
    """The oldest result of ``engine``, made of ``lr`` (H, W): (scale * H, scale * W) in its dtype, C-contiguous.

    Raises what the engine raises, and EngineError where the result is anything else.
    """
    shape = tuple(n * scale for n in lr.shape)
    return _as_image(f"the {engine.info.engine} engine gave", engine.collect(), shape, lr)


def reprojected_checked(engine: SelfChecking, lr: Image, name: str) -> Sequence[Image]:
    """What ``engine``, called ``name``, has degraded of the result collected last, each as ``lr`` (H, W)."""
    reprojected: object = engine.reprojected
    if not isinstance(reprojected, Sequence | np.ndarray) or len(reprojected) not in (1, 2):
        raise EngineError(
            f"the {name} engine gave {_words(reprojected)} as its degraded images, not one or two of "
            f"{lr.dtype} {lr.shape}"
        )
    return [
        _as_image(f"the {name} engine gave a degraded image of", image, lr.shape, lr) for image in reprojected
    ]


def check_opened(engine: Engine, shape: tuple[int, int], scale: int) -> None:
    """Raise EngineError where ``engine`` does not say of itself that it is for LR ``shape`` (H, W) and ``scale``."""
    info: object = engine.info
    if not isinstance(info, EngineInfo):
        raise EngineError(f"an engine describes itself by {_words(info)}, not an EngineInfo")
    texts = (info.engine, info.device, info.precision, info.model, info.model_hash)
    if not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in texts):
        raise EngineError(
            f"an engine is called {str(texts)[:200]}, not by five texts of at most {LONGEST_TEXT} characters"
        )
    if info.lr_shape != shape or info.scale != scale:
        raise EngineError(
            f"the {info.engine} engine is for {info.lr_shape} x{info.scale}; {shape} x{scale} was asked for"
        )
    if type(engine.depth) is not int or engine.depth < 1:
        raise EngineError(f"the {info.engine} engine takes {engine.depth!r} frames at a time, not 1 or more")
    limit: object = info.limit_db
    if limit is not None and not (isinstance(limit, int | float) and -MOST_DB < limit < MOST_DB):
        said = reprlib.repr(limit) if isinstance(limit, float | str) else _words(limit)
        raise EngineError(f"the {info.engine} engine's fidelity limit is {said}, not a number of dB")


def check_size(shape: tuple[int, int], scale: int) -> None:
    """Raise UsageError where the SR image of LR ``shape`` (H, W) would be too large to be made."""
    height, width = (n * scale for n in shape)
    if height * width > MOST_PIXELS or max(height, width) > MOST_SIDE:
        raise UsageError(
            f"a frame of {shape[1]}x{shape[0]} pixels at scale {scale} would become {width}x{height}; "
            f"{MOST_PIXELS / 1e6:.0f} million pixels and {MOST_SIDE} a side are allowed; take a part of it with "
            "--roi, or a smaller --scale, or refuse such frames with --max-size"
        )


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """An engine may be foreign code: whatever it raises is a reason to pass it over, told as ``what`` and its words."""
    try:
        yield
    except (ClesrError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise EngineError(f"{what}: {first_line(error)}") from error


def _as_image(who: str, value: object, shape: tuple[int, ...], lr: Image) -> Image:
    """``value`` as a plain array of ``shape`` and the dtype of ``lr``, else EngineError, which begins with ``who``."""
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != lr.dtype:
        raise EngineError(f"{who} {_words(value)}; {lr.dtype} {shape} was expected")
    if not value.flags.owndata or _references(value) > _ALONE:
        image: Image = np.array(value, order="C")  # the engine may use that memory again
    else:
        image = np.ascontiguousarray(value)
    return image


def _references(value: object) -> int:
    return sys.getrefcount(value)


_ALONE = (lambda value: _references(value))(np.empty(1))  # of an array that only the function that asks has


def _words(value: object) -> str:
    """What ``value`` is, short however large it is."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return "None" if value is None else f"a {type(value).__name__}"
