"""What computes SR from LR.

OpenVINO sends an event to Google Analytics when it is imported, unless ``openvino_telemetry`` is missing or the user
has opted out. With ``None`` in its place Python says that it is missing, whatever here imports OpenVINO first.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
