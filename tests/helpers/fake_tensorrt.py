"""``torch_tensorrt`` and ``tensorrt`` as far as clesr uses them, on the processor.

A "compiled engine" stands for the exported program; its execution context reads and writes the memory at the addresses
that it was given, as a real one does. Names of layers are those of torch_tensorrt 2.13, what the inspector says
has the form of TensorRT 10 and 11.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import importlib.machinery
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clesr.engines.backends.cuda import checked
from clesr.engines.backends.tensorrt import build as tensorrt_build
from clesr.engines.backends.tensorrt import engine as tensorrt_engine
from clesr.engines.backends.tensorrt import graph as tensorrt_graph
from clesr.engines.guidance import Guidance

CONTEXT = "TensorRT Conversion Context"
WORDS = {torch.float16: "Half", torch.float32: "Float"}
GPU = {"gpu": "NVIDIA Test", "compute capability": "9.0", "gpu memory": "80 GiB", "driver": "580.1"}


class Mode(enum.Enum):
    INPUT = 0
    OUTPUT = 1


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class Context:
    def __init__(self, engine: CudaEngine) -> None:
        self.engine, self.addresses = engine, dict[str, int]()

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        inputs = [torch.from_numpy(self._memory(name).copy()) for name in self.engine.inputs]
        with torch.inference_mode():
            self._memory("output0")[...] = self.engine.module(*inputs).numpy()
        return self.engine.trt.works

    def _memory(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        shape = self.engine.get_tensor_shape(name)
        buffer = (ctypes.c_float * int(np.prod(shape))).from_address(self.addresses[name])
        return np.ctypeslib.as_array(buffer).reshape(shape)


class CudaEngine:
    def __init__(self, trt: FakeTensorRT, program: torch.export.ExportedProgram, layers: list[Any]) -> None:
        self.trt, self.layers = trt, layers
        self.module = program.module()
        self.inputs = program.graph_signature.user_inputs
        tensors = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in self.inputs}
        tensors["output0"] = program.graph.output_node().args[0][0].meta["val"]
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(tensor.shape) for name, tensor in tensors.items()
        }
        self.dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name in self.inputs else Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.HALF if self.dtypes[name] == torch.float16 else DataType.FLOAT

    def create_execution_context(self) -> Context | None:
        return Context(self) if self.trt.has_memory else None

    def create_engine_inspector(self) -> CudaEngine:
        return self

    def get_engine_information(self, _format: object) -> str:
        return json.dumps({"Layers": self.layers, "Bindings": list(self.shapes)})


class FakeTensorRT:
    """What tests look at and change: the settings of each build, whether memory suffices, what the builder does."""

    def __init__(self) -> None:
        self.programs: list[torch.export.ExportedProgram] = []
        self.builds: list[dict[str, Any]] = []
        self.timings: list[bytes] = []  # what each build found
        self.has_memory = self.works = True
        self.builds_in = ""  # another type than the graph's
        self.failure: Exception | None = None
        self.swallowed: Exception | None = None  # raised within, logged, and then missed
        self.said: list[str] = []  # TensorRT's own errors, of a build and of what it does not take

    def convert(
        self, program: torch.export.ExportedProgram, *, arg_inputs: list[Any], **settings: Any
    ) -> bytes:
        assert program.example_inputs is not None
        assert [x.shape for x in arg_inputs] == [x.shape for x in program.example_inputs[0]]
        for text in self.said:
            logging.getLogger(f"torch_tensorrt [{CONTEXT}]").error(text)
        if self.failure:
            raise self.failure
        if self.swallowed:
            try:
                raise self.swallowed
            except Exception as error:
                logger = logging.getLogger("torch_tensorrt.dynamo._compiler")
                logger.error(f"While interpreting the module got an error: {error}", exc_info=True)
            raise UnboundLocalError("cannot access local variable 'interpreter_result'")
        self.builds.append(settings)
        timing = Path(settings["timing_cache_path"])
        self.timings.append(timing.read_bytes() if timing.is_file() else b"")
        timing.write_bytes(self.timings[-1] + b"+")
        from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter

        config = TRTInterpreter()._populate_trt_builder_config()
        layers = [
            self._layer(node, config.profiling_verbosity) for node in program.graph.nodes if _kind(node)
        ]
        self.programs.append(program)
        return b"TRT" + json.dumps({"program": len(self.programs) - 1, "layers": layers}).encode()

    def _layer(self, node: torch.fx.Node, verbosity: str) -> Any:
        """A line of the inspector's list."""
        module = list(node.meta["nn_module_stack"].values())[-1][0].removeprefix("L['self'].")
        name = f"[{_kind(node)}]-[aten_ops.default]-[{module}/{node.name.replace('conv2d', 'convolution')}]"
        if verbosity != "DETAILED":
            return name
        words = [self.builds_in or WORDS[n.meta["val"].dtype] for n in node.all_input_nodes]
        inputs = [{"Name": "t", "Format/Datatype": word, "Dimensions": [1]} for word in words[:1]]
        kind = "CaskConvolution" if _kind(node) == "CONVOLUTION" else "kgen"
        return {"Name": name, "LayerType": kind, "Inputs": inputs, "Outputs": [], "TacticName": "sm90"}

    def runtime(self, logger: ILogger) -> types.SimpleNamespace:
        return types.SimpleNamespace(
            deserialize_cuda_engine=lambda content: self.deserialise(content, logger)
        )

    def deserialise(self, content: bytes, logger: ILogger) -> CudaEngine | None:
        if not content.startswith(b"TRT"):
            logger.log(ILogger.Severity.WARNING, "this was built elsewhere")
            for text in self.said:
                logger.log(ILogger.Severity.ERROR, text)
            return None
        built = json.loads(content[3:])
        return CudaEngine(self, self.programs[built["program"]], built["layers"])


def _kind(node: torch.fx.Node) -> str:
    target = str(node.target)
    if node.op != "call_function":
        return ""
    return "CONVOLUTION" if "conv2d" in target else "RELU" if "relu" in target else ""


_export = functools.cache(tensorrt_graph.export)  # slow, and nobody changes a program


class Slot:
    """A slot without a GPU."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.host_in = np.zeros(network.lr.shape, str(network.lr.dtype).removeprefix("torch."))
        self.host_out = np.zeros(network.sr.shape, self.host_in.dtype)

    def tell(self, guidance: Guidance) -> None:
        self.network.guided.numbers.copy_(torch.from_numpy(self.network.guided.pack(guidance.levels)))
        self.network.guided.trust.copy_(torch.from_numpy(guidance.trust))

    def start(self) -> None:
        self.network.lr.copy_(torch.from_numpy(self.host_in))
        self.network.run()

    def wait(self) -> None:
        np.copyto(self.host_out, self.network.sr.numpy())

    def close(self) -> None:
        pass


def install(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    """For the rest of the test there is a GPU with TensorRT, as far as the tensorrt engine can see."""
    fake = FakeTensorRT()

    class Interpreter:
        def _populate_trt_builder_config(self) -> types.SimpleNamespace:
            return types.SimpleNamespace(profiling_verbosity="LAYER_NAMES_ONLY")

    modules: dict[str, dict[str, Any]] = {
        "tensorrt": {
            "ILogger": ILogger,
            "Runtime": fake.runtime,
            "LayerInformationFormat": types.SimpleNamespace(JSON=1),
            "ProfilingVerbosity": types.SimpleNamespace(DETAILED="DETAILED"),
        },
        "torch_tensorrt": {
            "Device": lambda gpu_id: gpu_id,
            "dynamo": types.SimpleNamespace(convert_exported_program_to_serialized_trt_engine=fake.convert),
        },
        "torch_tensorrt.dynamo": {},
        "torch_tensorrt.dynamo.conversion": {},
        "torch_tensorrt.dynamo.conversion._TRTInterpreter": {"TRTInterpreter": Interpreter},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(tensorrt_engine, "why_no_tensorrt", lambda: "")
    monkeypatch.setattr(tensorrt_engine, "gpu_key", lambda: GPU)
    monkeypatch.setattr(tensorrt_engine, "DEVICE", "cpu")
    monkeypatch.setattr(checked, "CudaSlot", Slot)
    monkeypatch.setattr(tensorrt_engine, "export", _export)
    monkeypatch.setattr(tensorrt_build, "library", lambda: "torch-tensorrt 2.13.0, tensorrt 11.0.0.114")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: GPU["gpu"])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    return fake
