"""Building a TensorRT engine with torch_tensorrt, and opening a built one.

Two packages give the module ``torch_tensorrt``: torch-tensorrt for every card, and torch-tensorrt-rtx for RTX cards,
whose ``tensorrt`` is TensorRT for RTX. Importing it needs CUDA, so it happens in the functions.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from clesr.engines.cache import Cache, Key
from clesr.engines.common.errors import EngineError
from clesr.engines.common.packages import versions_of
from clesr.engines.common.quiet import quiet

DISTRIBUTIONS = ("torch-tensorrt", "torch-tensorrt-rtx")
SETTINGS = {"optimization_level": 5, "tiling_optimization_level": "full"}  # a slow build of a fast engine
TIMINGS = "timings"


def library() -> str:
    """The installed package and its TensorRT, with versions, such as torch-tensorrt 2.13.0, tensorrt 11.0.0.114;
    empty where none is installed."""
    for name, runtime in zip(DISTRIBUTIONS, ("tensorrt", "tensorrt_rtx"), strict=True):
        if len(found := versions_of((name, runtime))) == 2:
            return ", ".join(f"{package} {version}" for package, version in found.items())
    return ""


def build(program: ExportedProgram, timings: Cache, key: Key) -> bytes:
    """A serialised engine of ``program`` on the current GPU, for the shape it was exported with. Takes minutes.

    TensorRT's times of single kernels are taken from and kept in ``timings`` under ``key``; TensorRT for RTX has none.
    """
    import torch_tensorrt

    assert program.example_inputs is not None
    with (
        tempfile.TemporaryDirectory(prefix="clesr-") as folder,
        quiet("torch_tensorrt", logging.CRITICAL),
        _detailed_layers(),
    ):
        known = Path(folder) / "timing.cache"
        before = timings.read(TIMINGS, key)
        if before is not None:
            known.write_bytes(before)
        built = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            program,
            arg_inputs=list(program.example_inputs[0]),
            device=torch_tensorrt.Device(gpu_id=torch.cuda.current_device()),
            immutable_weights=True,
            disable_tf32=True,
            require_full_compilation=True,
            timing_cache_path=str(known),
            **SETTINGS,
        )
        if known.is_file() and (after := known.read_bytes()) != before:
            timings.write(TIMINGS, key, after)
    return bytes(built)


def deserialise(content: bytes) -> Any:
    """The ``ICudaEngine`` in ``content``. Raises EngineError where this TensorRT on this card does not take it."""
    import torch_tensorrt  # noqa: F401 - makes `tensorrt` the right one of the two
    from tensorrt import Logger, Runtime

    engine = Runtime(Logger(Logger.ERROR)).deserialize_cuda_engine(content)
    if engine is None:
        raise EngineError("TensorRT does not take the serialised engine")
    return engine


def layers_as_json(engine: Any) -> str:
    """What the engine inspector says of ``engine``."""
    from tensorrt import LayerInformationFormat

    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(LayerInformationFormat.JSON))


@contextmanager
def _detailed_layers() -> Iterator[None]:
    """Engines built within the block tell their layers' types. torch_tensorrt has no setting for that."""
    from tensorrt import ProfilingVerbosity
    from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter

    original = TRTInterpreter._populate_trt_builder_config

    def detailed(self: Any, *arguments: Any, **options: Any) -> Any:
        config = original(self, *arguments, **options)
        config.profiling_verbosity = ProfilingVerbosity.DETAILED
        return config

    TRTInterpreter._populate_trt_builder_config = detailed
    try:
        yield
    finally:
        TRTInterpreter._populate_trt_builder_config = original
