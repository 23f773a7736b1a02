"""Model files: safetensors weights with a descriptor in the metadata. Anything pickled is refused."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
import safetensors
import safetensors.torch
import torch
from msgspec import Meta
from torch import Tensor, nn

from clesr.engines.common.errors import WHY, UsageError, WeightsError, told_as
from clesr.engines.common.files import NEW, WriteRule, write_file
from clesr.engines.common.parsing import check_depth
from clesr.engines.models.registry import SCALES, level_names, meta_network, names_file
from clesr.engines.models.safetensors_file import Header, parse_metadata, read_file, read_tensors_header

FORMAT = 1
METADATA_KEY = "clesr"
PICKLE_SUFFIXES = (".pt", ".pth", ".pkl", ".ckpt", ".bin", ".t7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a model is and how it was made; stored as JSON beside its tensors.

    ``arguments`` are those of the architecture, ``training`` how the weights came to be, ``metrics`` the
    figures on the test set (true PSNR in dB inside the field of view, bicubic beside it), ``fidelity`` the
    limits of the consistency check in dB where they were computed.
    """

    name: Annotated[str, Meta(max_length=200)]
    architecture: Annotated[str, Meta(max_length=200)]
    scale: int
    arguments: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    fidelity: dict[str, Annotated[float, Meta(ge=-1e9, le=1e9)]] | None = None
    commit: str | None = None
    licence: str = "Apache-2.0"
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its weights (eval mode, FP32, CPU), what it is, and its identity."""

    descriptor: Descriptor
    module: nn.Module
    sha256: str

    @property
    def name(self) -> str:
        return self.descriptor.name

    @property
    def scale(self) -> int:
        return self.descriptor.scale

    @property
    def levels(self) -> tuple[str, ...]:
        """What the network is to be told of each image."""
        return level_names(self.module)

    @property
    def key(self) -> dict[str, str]:
        """What is computed and how fast: the identity covers the weights alone, so the network's arguments stand
        beside it."""
        descriptor = self.descriptor
        network = f"{descriptor.architecture} x{descriptor.scale} {sorted(descriptor.arguments.items())}"
        return {"model": self.sha256, "network": network}

    def __str__(self) -> str:
        return f"{self.name} x{self.scale} ({self.sha256[:12]})"


def identity(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the tensors' names, dtypes, shapes and bytes in order of name: the model's identity."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def save_model(path: Path, module: nn.Module, descriptor: Descriptor, rule: WriteRule = NEW) -> str:
    """Write ``module`` with ``descriptor`` to ``path`` and return its identity; never half-written. Raises SinkError
    where the file cannot be written, or ``rule`` forbids it."""
    tensors = {name: t.detach().cpu().float().contiguous() for name, t in module.state_dict().items()}
    metadata = {METADATA_KEY: json.dumps(asdict(descriptor), sort_keys=True)}
    write_file(path, safetensors.torch.save(tensors, metadata), rule)
    return identity(tensors)


def read_descriptor(path: Path) -> Descriptor:
    """The descriptor in ``path``; raises WeightsError where there is none or it is not understood."""
    return _read(path)[0]


def load_model(path: Path) -> Model:
    """The model in ``path``; raises WeightsError where the tensors do not fit its descriptor.

    What the descriptor says is compared with the shapes of the tensors before memory is taken for either.
    """
    descriptor, header = _read(path)
    module = meta_network(descriptor.architecture, descriptor.scale, descriptor.arguments)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    foreign = (
        f"the tensors in {path} are not those of {descriptor.architecture} x{descriptor.scale} "
        f"{str(descriptor.arguments)[:200]}; the file was made by another model"
    )
    if shapes != header.shapes:
        raise WeightsError(foreign)
    with told_as(WeightsError, foreign, (RuntimeError, safetensors.SafetensorError)):
        loaded = safetensors.torch.load(read_file(path))
        module.load_state_dict({name: tensor.float() for name, tensor in loaded.items()}, assign=True)
    if not all(bool(torch.isfinite(t).all()) for t in loaded.values()):
        raise WeightsError(f"{path} holds values that are not finite; train or download it again")
    return Model(descriptor, module, identity(loaded))


@functools.cache
def shipped() -> Mapping[tuple[str, int], Path]:
    """The models in the package: (name, scale) -> file."""
    folder = Path(str(resources.files("clesr.engines.models") / "shipped"))
    found = {}
    for path in sorted(folder.glob("*-x[248].safetensors")):
        name, _, scale = path.stem.rpartition("-x")
        found[name, int(scale)] = path
    return found


def find_model(name_or_path: str, scale: int, *, besides: Sequence[str] = ()) -> Model:
    """A shipped model by name, or a file's, checked against ``scale``. ``besides`` are names that the caller knows and
    that are no models; they are named where the name is unknown.

    Raises UsageError where no such name or no weights for this scale exist, WeightsError for a bad file.
    """
    path = Path(name_or_path)
    if names_file(name_or_path):
        model = load_model(path)
        if model.scale != scale:
            raise WeightsError(f"{path} is for scale {model.scale}, not {scale}; give --scale {model.scale}")
        return model
    names = sorted({name for name, _ in shipped()})
    if name_or_path not in names:
        raise UsageError(
            f"model {name_or_path!r} is unknown; choose one of {', '.join([*besides, *names])}, "
            "or give the path of a .safetensors file"
        )
    scales = [s for s in SCALES if (name_or_path, s) in shipped()]
    if scale not in scales:
        having = sorted({name for name, s in shipped() if s == scale})
        raise UsageError(
            f"{name_or_path} has no weights for scale {scale}, only for {', '.join(map(str, scales))}; "
            f"scale {scale} works with {', '.join(having) or 'no shipped model'}"
        )
    return load_model(shipped()[name_or_path, scale])


def _refuse_what_is_no_model(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}; `clesr models` lists what is installed")
    with path.open("rb") as file:
        head = file.read(8)
    pickled = path.suffix.lower() in PICKLE_SUFFIXES or head[:2] in (b"PK", b"\x80\x02", b"\x80\x04")
    if pickled:
        raise WeightsError(
            f"{path} is a pickled file, which can run code when loaded, and is refused; load it where you "
            "trust it, with torch.load(..., weights_only=True), and write it with "
            "clesr.engines.models.weights.save_model"
        )


def _read(path: Path) -> tuple[Descriptor, Header]:
    _refuse_what_is_no_model(path)
    header = read_tensors_header(path)
    if METADATA_KEY not in header.metadata:
        raise WeightsError(
            f"{path} has no clesr descriptor; only weights written by `clesr train` can be loaded"
        )
    return _parse_descriptor(path, header.metadata[METADATA_KEY]), header


class _DescriptorFormat(msgspec.Struct):
    format: int


def _parse_descriptor(path: Path, text: str) -> Descriptor:
    version = parse_metadata(path, text, _DescriptorFormat).format
    if version != FORMAT:
        raise WeightsError(f"{path} has descriptor format {version}; this clesr reads {FORMAT}; update clesr")
    descriptor = parse_metadata(path, text, Descriptor)
    with told_as(WeightsError, f"the descriptor in {path} {WHY}; copy the file again", ValueError):
        check_depth([descriptor.training, descriptor.metrics, descriptor.arguments])
        if not descriptor.name.isprintable():
            raise ValueError(f"has the name {descriptor.name!r}, which is not one of printable characters")
    return descriptor
