"""The engine that a command's options name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clesr.engines.opener import ASSUMED_FPS, EngineOpener
from clesr.tools.common.console import tell

NAMES = ("scale", "model", "engine", "device", "precision", "threads")  # as ``EngineSettings`` has them


def make_opener(
    settings: Any, fps: float | None = ASSUMED_FPS, say: Callable[[str], None] = tell
) -> EngineOpener:
    """Opens the engine that ``settings`` name, which have the fields of ``EngineSettings``; ``fps`` is what the model
    "auto" must hold."""
    return EngineOpener(**{name: getattr(settings, name) for name in NAMES}, fps=fps, explain=say)
