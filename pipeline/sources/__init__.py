"""Where frames come from. ``open_source`` turns an address into a source."""

from __future__ import annotations

from clesr.pipeline.sources.base import Source, SourceInfo

__all__ = ["Source", "SourceInfo"]
