"""Checkpoints that a failed write cannot lose."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from clesr.pipeline.errors import ClesrError

NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """``state`` in ``folder``, in place of the one before only when it is wholly on disk.

    Raises ClesrError where it cannot be written; the earlier checkpoint is then still there.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    temporary = folder / (NAME + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / NAME)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ClesrError(
            f"the checkpoint of {buffer.tell() / 1e6:.0f} MB cannot be written to {folder}: {error.strerror}; make "
            "room and give the same command: it goes on from the checkpoint before"
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
