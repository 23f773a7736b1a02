"""What computes SR from LR: the Engine protocol and the choice of an engine for this machine."""

from __future__ import annotations

from clesr.engines import telemetry  # noqa: F401 - before anything imports OpenVINO
from clesr.engines.base import Engine, EngineInfo
from clesr.engines.offer import Offer
from clesr.engines.selection import engines, open_engine

__all__ = ["Engine", "EngineInfo", "Offer", "engines", "open_engine"]
