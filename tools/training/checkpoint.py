"""Checkpoints that a failed write cannot lose."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from clesr.pipeline.errors import ClesrError, SinkError
from clesr.pipeline.files import OWN, write_file

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


def load(folder: Path) -> dict[str, Any] | None:
    """The state that was saved last; None where there is none. Raises ClesrError where it is damaged."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ClesrError(f"{path} is damaged ({error}); remove it to start anew") from error
    return state
