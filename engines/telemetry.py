"""Libraries that would tell their makers that they are used: kept from it by importing this first.

OpenVINO sends an event to Google Analytics when it is imported, unless ``openvino_telemetry`` is missing or the user
has opted out. With ``None`` in its place Python says that it is missing.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
