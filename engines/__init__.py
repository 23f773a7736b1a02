"""What computes SR from LR. Called, as ``clesr.engines()``, it lists every engine on every device of this machine."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from clesr.engines import telemetry  # noqa: F401 - before anything imports OpenVINO

if TYPE_CHECKING:
    from clesr.engines.candidate import EngineCandidate


class _Engines(ModuleType):
    """The package under the name that ``import clesr`` gives a function."""

    def __call__(self) -> list[EngineCandidate]:
        from clesr.engines.factory import engines

        return engines()


sys.modules[__name__].__class__ = _Engines
