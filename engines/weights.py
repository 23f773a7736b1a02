"""Model files: safetensors weights with a descriptor in the metadata. Anything pickled is refused."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from clesr.engines.models import SCALES, build_model
from clesr.pipeline.errors import UsageError, WeightsError
from clesr.pipeline.files import NEW, WriteRule, write_file

FORMAT = 1
METADATA_KEY = "clesr"
PICKLE_SUFFIXES = (".pt", ".pth", ".pkl", ".ckpt", ".bin", ".t7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a model is and how it was made; stored as JSON beside its tensors.

    ``arguments`` are the architecture's numbers, ``training`` how the weights came to be, ``metrics`` the
    figures on the test set (true PSNR in dB inside the field of view, bicubic beside it), ``fidelity`` the
    limits of the consistency check in dB where they were computed.
    """

    name: str
    architecture: str
    scale: int
    arguments: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    fidelity: dict[str, float] | None = None
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
    _refuse_what_is_no_model(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file ({error}); copy it again") from error
    if METADATA_KEY not in metadata:
        raise WeightsError(
            f"{path} has no clesr descriptor; only weights written by `clesr train` can be loaded"
        )
    return _parse_descriptor(path, metadata[METADATA_KEY])


def load_model(path: Path) -> Model:
    """The model in ``path``; raises WeightsError where the tensors do not fit its descriptor."""
    descriptor = read_descriptor(path)
    module = build_model(descriptor.architecture, descriptor.scale, descriptor.arguments)
    tensors = safetensors.torch.load_file(path)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(
            f"the tensors in {path} are not those of {descriptor.architecture} x{descriptor.scale} "
            f"{descriptor.arguments}; the file was made by another model"
        ) from error
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise WeightsError(f"{path} holds values that are not finite; train or download it again")
    return Model(descriptor, module, identity(tensors))


@functools.cache
def shipped() -> Mapping[tuple[str, int], Path]:
    """The models in the package: (name, scale) -> file."""
    folder = Path(str(resources.files("clesr.engines") / "weights"))
    found = {}
    for path in sorted(folder.glob("*-x[248].safetensors")):
        name, _, scale = path.stem.rpartition("-x")
        found[name, int(scale)] = path
    return found


def find_model(name_or_path: str, scale: int) -> Model:
    """A shipped model by name, or a file's, checked against ``scale``.

    Raises UsageError where no such name or no weights for this scale exist, WeightsError for a bad file.
    """
    path = Path(name_or_path)
    if path.suffix or path.parent != Path():
        model = load_model(path)
        if model.scale != scale:
            raise WeightsError(f"{path} is for scale {model.scale}, not {scale}; give --scale {model.scale}")
        return model
    names = sorted({name for name, _ in shipped()})
    if name_or_path not in names:
        raise UsageError(
            f"model {name_or_path!r} is unknown; choose one of {', '.join(names)}, "
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
            "clesr.engines.weights.save_model"
        )


def _parse_descriptor(path: Path, text: str) -> Descriptor:
    try:
        raw = json.loads(text)
        version = raw["format"]
        if version != FORMAT:
            raise WeightsError(
                f"{path} has descriptor format {version}; this clesr reads {FORMAT}; update clesr"
            )
        known = {f.name for f in fields(Descriptor)}
        descriptor = Descriptor(**{key: value for key, value in raw.items() if key in known})
        for name, kind in (("name", str), ("architecture", str), ("scale", int), ("arguments", dict)):
            if not isinstance(getattr(descriptor, name), kind):
                raise TypeError(f"{name} is {getattr(descriptor, name)!r}")
        return descriptor
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"the descriptor in {path} is damaged ({error}); copy the file again") from error
