"""Checkpoints that a failed write cannot lose."""

from __future__ import annotations

import io
import os
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta

from clesr.engines.common.errors import ClesrError, SinkError
from clesr.engines.common.files import OWN, write_file
from clesr.engines.common.parsing import Count, convert, one_line, open_regular

NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """``state`` in ``folder``, in place of the one before only when it is wholly on disk.

    Raises ClesrError where it cannot be written; the earlier checkpoint is then still there.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        write_file(folder / NAME, buffer.getbuffer(), OWN)
    except SinkError as error:
        raise ClesrError(
            f"the checkpoint of {buffer.tell() / 1e6:.0f} MB: {error}; then give the same command: it goes on from "
            "the checkpoint before"
        ) from error


class _State(msgspec.Struct):
    recipe: str
    model: dict[str, Any]
    optimiser: dict[str, Any]
    step: Count
    seconds: Annotated[float, Meta(ge=0)]


def _check_sizes(file: BufferedReader) -> None:
    """torch takes memory for as much as a file states. Raises ValueError where that is more than it holds, and
    BadZipFile."""
    stated = sum(entry.file_size for entry in zipfile.ZipFile(file).infolist())
    if stated > os.fstat(file.fileno()).st_size:
        raise ValueError(f"it states {stated} bytes, more than it has")
    file.seek(0)


def load(folder: Path) -> dict[str, Any] | None:
    """The state that was saved last; None where there is none. Raises ClesrError where it is damaged."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with open_regular(path) as file:
            _check_sizes(file)
            state = torch.load(file, map_location="cpu", weights_only=True)
        return msgspec.structs.asdict(convert(state, _State))
    except Exception as error:
        raise ClesrError(f"{path} is damaged ({one_line(error)}); remove it to start anew") from error
