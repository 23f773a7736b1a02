"""What computes SR from LR. Called, as ``clesr.engines()``, it lists every engine on every device of this machine.

OpenVINO sends an event to Google Analytics when it is imported, unless ``openvino_telemetry`` is missing or the user
has opted out. With ``None`` in its place Python says that it is missing, whatever here imports OpenVINO first.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clesr.engines.candidate import EngineCandidate

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class _Engines(ModuleType):
    """The package under the name that ``import clesr`` gives a function."""

    def __call__(self) -> list[EngineCandidate]:
        from clesr.engines.factory import engines

        return engines()


sys.modules[__name__].__class__ = _Engines
