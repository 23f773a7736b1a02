"""What computes SR from LR: the Engine protocol and the choice of an engine for this machine."""

from __future__ import annotations

from clesr.engines.base import Engine, EngineInfo

__all__ = ["Engine", "EngineInfo"]
