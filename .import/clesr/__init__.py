"""clesr: live super-resolution for confocal laser endomicroscopy.

Images are NumPy arrays (H, W) of uint8 or uint16. Everything here is loaded when it is first asked for.

    import clesr

    sr = clesr.upscale(image, scale=4)  # (H, W) -> (4 * H, 4 * W), same dtype

- ``upscale``, ``Upscaler``: one image; many, with an engine that stays open
- ``models``, ``engines``, ``open_engine``: what there is to compute with
- ``open_source``, ``open_sink``, ``Pipeline``: a live path of sources, an engine and sinks
- ``SOURCES``, ``SINKS``: what opens which address; ``SOURCES.add("mycamera", open_mycamera)`` adds one
- ``Session``, ``SessionFrame``: a recorded session, read and verified
- ``Frame``, ``Corrupt``, ``Outage``, ``Result``, ``Outcome``, ``SourceInfo``, ``Policy``: what goes through the path
- ``ClesrError`` and its kinds: every failure that a user can understand, in one line

What is to be said of a run goes to the loggers below ``clesr``, and nowhere until a program gives them a handler.
"""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clesr.engines.common.errors import ClesrError as ClesrError
    from clesr.engines.common.errors import EndOfSource as EndOfSource
    from clesr.engines.common.errors import EngineError as EngineError
    from clesr.engines.common.errors import MissingDependencyError as MissingDependencyError
    from clesr.engines.common.errors import SinkError as SinkError
    from clesr.engines.common.errors import SourceError as SourceError
    from clesr.engines.common.errors import UsageError as UsageError
    from clesr.engines.common.errors import WeightsError as WeightsError
    from clesr.engines.factory import engines as engines
    from clesr.engines.factory import open_engine as open_engine
    from clesr.pipeline.frame import Corrupt as Corrupt
    from clesr.pipeline.frame import Frame as Frame
    from clesr.pipeline.frame import InvalidFrame as InvalidFrame
    from clesr.pipeline.frame import Outage as Outage
    from clesr.pipeline.frame import Outcome as Outcome
    from clesr.pipeline.frame import Result as Result
    from clesr.pipeline.frame_queue import Policy as Policy
    from clesr.pipeline.session.sessions import Session as Session
    from clesr.pipeline.session.sessions import SessionFrame as SessionFrame
    from clesr.engines.upscaler import Upscaler as Upscaler
    from clesr.engines.upscaler import models as models
    from clesr.engines.upscaler import upscale as upscale
    from clesr.pipeline.pipeline import Pipeline as Pipeline
    from clesr.pipeline.session.format import SessionError as SessionError
    from clesr.pipeline.session.recorder import Recorder as Recorder
    from clesr.pipeline.sinks.registry import SINKS as SINKS
    from clesr.pipeline.sinks.registry import SinkOptions as SinkOptions
    from clesr.pipeline.sinks.registry import open_sink as open_sink
    from clesr.pipeline.source import SourceInfo as SourceInfo
    from clesr.pipeline.sources.registry import SOURCES as SOURCES
    from clesr.pipeline.sources.registry import SourceOptions as SourceOptions
    from clesr.pipeline.sources.registry import open_source as open_source


__version__: str

_MODULES = {
    "engines.common.errors": "ClesrError EndOfSource EngineError MissingDependencyError SinkError SourceError UsageError "
    "WeightsError",
    "engines.factory": "open_engine",
    "pipeline.frame": "Corrupt Frame InvalidFrame Outage Outcome Result",
    "pipeline.frame_queue": "Policy",
    "engines.upscaler": "Upscaler models upscale",
    "pipeline.session.sessions": "Session SessionFrame",
    "pipeline.pipeline": "Pipeline",
    "pipeline.session.format": "SessionError",
    "pipeline.session.recorder": "Recorder",
    "pipeline.sinks.registry": "SINKS SinkOptions open_sink",
    "pipeline.source": "SourceInfo",
    "pipeline.sources.registry": "SOURCES SourceOptions open_source",
}
logging.getLogger(__name__).addHandler(logging.NullHandler())
for _thread in (
    "WORKER",
    "MAIN",
):  # of OpenCV: one without work must not look for some where an engine computes
    os.environ.setdefault(f"OPENCV_THREAD_POOL_ACTIVE_WAIT_{_thread}", "0")
_PLACES = {name: f"clesr.{module}" for module, names in _MODULES.items() for name in names.split()}
__all__ = ["__version__", "engines", *_PLACES]


if not TYPE_CHECKING:  # to them every name would be there

    def __getattr__(name: str) -> Any:
        if name == "engines":  # a package that can be called
            return import_module("clesr.engines")
        if name == "__version__":
            return _version()
        if name not in _PLACES:
            raise AttributeError(f"module 'clesr' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_PLACES[name]), name)
        return value


def _version() -> str:
    """A git tag, or the commits since."""
    from importlib import metadata  # slow to import, and seldom needed

    try:
        return metadata.version("clesr")
    except metadata.PackageNotFoundError:  # run from its folder without being installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
