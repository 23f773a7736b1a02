"""What computes SR from LR."""

from __future__ import annotations

from clesr.engines import telemetry  # noqa: F401 - before anything imports OpenVINO
