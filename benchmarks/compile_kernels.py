"""Compile every kernel of the cuda engine with every plan for given cards, without a GPU: a JSON line each.

    python benchmarks/compile_kernels.py [--cases 4] 80 89 90 120

A line has the network and its images, the plan and what the compiler says of it: registers and spilled bytes of a
thread, shared memory of a program, matrix and copy instructions.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.backends.cuda.kernels.plan import alternatives
from clesr.engines.models.registry import LEVELS, build_model

TYPES = {
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.uint8: "u8",
    torch.uint16: "u16",
    torch.int32: "i32",
}
SHARED = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KiB a program may have
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion", "launch_pdl")


class Recorder:
    """Takes the place of a kernel's launch: compiles what would be launched, for ``arch``, once for each variant."""

    def __init__(self, arch: int) -> None:
        self.arch, self.found = arch, dict[str, dict[str, Any]]()

    def launch(self, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
        bound = {**dict(zip(kernel.arg_names, args, strict=False)), **kwargs}
        signature, constants, attributes = _specialise(kernel, bound)
        key = repr((kernel.__name__, signature, constants, options))
        if key not in self.found:
            source = ASTSource(kernel, signature, constants, attributes)
            target = GPUTarget("cuda", self.arch, 32)
            compiled = triton.compile(source, target=target, options=options)
            self.found[key] = {"kernel": kernel.__name__, "arch": self.arch, **_statistics(compiled)}
        return self.found[key]


def _specialise(kernel: Any, bound: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any], dict[Any, Any]]:
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        name, value = parameter.name, bound[parameter.name]
        if parameter.is_constexpr or (
            isinstance(value, int) and value == 1 and not parameter.do_not_specialize
        ):
            signature[name], constants[name] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            signature[name], aligned = "*" + TYPES[value.dtype], value.data_ptr() % 16 == 0
        elif isinstance(value, TensorDescriptor):
            block = ",".join(map(str, value.block_shape))
            signature[name], aligned = f"tensordesc<{TYPES[value.base.dtype]}[{block}]>", False
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
            aligned = isinstance(value, int) and value % 16 == 0 and not parameter.do_not_specialize
        if aligned:
            attributes[(index,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _statistics(compiled: Any) -> dict[str, Any]:
    ptx: str = compiled.asm["ptx"]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        target = re.search(r"\.target (\w+)", ptx)
        assert target is not None
        ptxas = get_ptxas(compiled.metadata.target.arch).path
        command = [ptxas, "-v", f"--gpu-name={target[1]}", file.name, "-o", "/dev/null"]
        log = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    registers, spills = re.search(r"Used (\d+) registers", log), re.search(r"(\d+) bytes spill stores", log)
    return {
        "registers": int(registers[1]) if registers else None,
        "spilled": int(spills[1]) if spills else 0,
        "shared": compiled.metadata.shared,
        "wgmma": sorted(set(re.findall(r"wgmma\.mma_async\.sync\.aligned\.(\w+)", ptx))),
        "tcgen05": len(re.findall(r"tcgen05\.mma", ptx)),
        "mma": len(re.findall(r"\bmma\.sync", ptx)),
        "copies": len(re.findall(r"cp\.async\.c[ag]\.", ptx)),
        "bulk copies": len(re.findall(r"cp\.async\.bulk\.tensor", ptx)),
    }


class Case(NamedTuple):
    """A network and its images; between them ``CASES`` have each form of the kernels that have no plan."""

    scale: int
    dtype: torch.dtype
    width: int
    base: str
    levels: Sequence[str] = ()

    def __str__(self) -> str:
        levels = ", levels" if self.levels else ""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"x{self.scale}, {dtype}, {self.width} wide, base {self.base}{levels}"


CASES = (
    Case(4, torch.uint8, 256, "bicubic"),
    Case(2, torch.uint16, 256, "none"),
    Case(8, torch.uint16, 256, "bicubic", LEVELS),
    Case(4, torch.uint8, 47, "bicubic", LEVELS),
)


def compile_all(arch: int, cases: Sequence[Case] = CASES) -> Iterator[dict[str, Any]]:
    """Every kernel with every plan, in the forms of ``cases``, for compute capability ``arch`` (90 is 9.0)."""
    capability = divmod(arch, 10)
    recorder, last = Recorder(arch), dict[str, Any]()

    def launch(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        last.update(recorder.launch(self, args, kwargs))

    JITFunction.run = launch
    for case in cases:
        numbers = {"blocks": 1, "skip": "add", "base": case.base, "levels": list(case.levels)}
        module = build_model("densenet", case.scale, numbers)
        for step in DenseNetKernels(module, (64, case.width), case.dtype, "cpu").steps:
            for plan in alternatives(step.kind, capability) if step.kind else (None,):
                last.clear()
                step.run(plan, capability >= (9, 0))
                if last:  # else it is torch's
                    yield {"case": str(case), "step": step.name, "plan": str(plan or ""), **last}


def fits(line: dict[str, Any]) -> bool:
    """Whether a compiled kernel keeps everything in registers and its shared memory is there."""
    return not line["spilled"] and line["shared"] <= SHARED[line["arch"]] * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "arch", nargs="+", type=int, choices=sorted(SHARED), help="compute capability times ten"
    )
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first of the networks alone")
    arguments = parser.parse_args()
    for arch in arguments.arch:
        for line in compile_all(arch, CASES[: arguments.cases]):
            print(json.dumps({**line, "fits": fits(line)}), flush=True)


if __name__ == "__main__":
    main()
