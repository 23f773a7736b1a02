"""Building a TensorRT engine with torch_tensorrt, and opening a built one.

Two packages give the module ``torch_tensorrt``: torch-tensorrt for every card, and torch-tensorrt-rtx for RTX cards,
whose ``tensorrt`` is TensorRT for RTX. Importing it needs CUDA, so it happens in the functions.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from clesr.engines.cache import Cache, Key
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.common.packages import versions_of
from clesr.engines.common.parsing import one_line
from clesr.engines.common.quiet import heard

DISTRIBUTIONS = ("torch-tensorrt", "torch-tensorrt-rtx")
SETTINGS = {"optimization_level": 5, "tiling_optimization_level": "full"}  # a slow build of a fast engine
TIMINGS = "timings"
LOGGERS = ("torch_tensorrt", "torch_tensorrt [TensorRT Conversion Context]")  # its own, and TensorRT's in it


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
    Raises EngineError with what TensorRT or torch_tensorrt has against it.
    """
    import torch_tensorrt

    assert program.example_inputs is not None
    with (
        tempfile.TemporaryDirectory(prefix="clesr-") as folder,
        heard(*LOGGERS) as errors,
        _detailed_layers(),
    ):
        known = Path(folder) / "timing.cache"
        before = timings.read(TIMINGS, key)
        if before is not None:
            known.write_bytes(before)
        try:
            built = bytes(
                torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                    program,
                    arg_inputs=list(program.example_inputs[0]),
                    device=torch_tensorrt.Device(gpu_id=torch.cuda.current_device()),
                    immutable_weights=True,
                    disable_tf32=True,
                    require_full_compilation=True,
                    timing_cache_path=str(known),
                    **SETTINGS,
                )
            )
        except Exception as error:
            raise EngineError(_why(error, errors)) from error
        if known.is_file() and (after := known.read_bytes()) != before:
            timings.write(TIMINGS, key, after)
    return built


def _why(error: Exception, errors: Sequence[logging.LogRecord]) -> str:
    """What went wrong: torch_tensorrt logs what was raised within it and then stumbles over that there is no engine;
    of TensorRT's own errors the first is the cause of the others."""
    raised = next((record.exc_info[1] for record in errors if record.exc_info and record.exc_info[1]), error)
    own = [record.getMessage() for record in errors if not record.exc_info]
    said = [first_line(raised)] if str(raised) or not own else []
    return "; ".join([*said, *(f"TensorRT says: {one_line(text)}" for text in own[:1])])


def deserialise(content: bytes) -> Any:
    """The ``ICudaEngine`` in ``content``. Raises EngineError where this TensorRT on this card does not take it."""
    import torch_tensorrt  # noqa: F401 - makes `tensorrt` the right one of the two
    from tensorrt import ILogger, Runtime

    errors: list[str] = []

    class Ear(ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (ILogger.Severity.INTERNAL_ERROR, ILogger.Severity.ERROR):
                errors.append(message)

    engine = Runtime(Ear()).deserialize_cuda_engine(content)
    if engine is None:
        said = f": {one_line(errors[0])}" if errors else ""
        raise EngineError(f"TensorRT does not take the serialised engine{said}")
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
