"""Where results go. ``open_sink`` turns an address into a sink."""

from __future__ import annotations

from clesr.pipeline.sinks.base import LiveSink, Sink

__all__ = ["LiveSink", "Sink"]
