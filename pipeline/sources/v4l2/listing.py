"""The cameras of this machine, for a user who looks for an address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from linuxpy.video import device as v4l2  # type: ignore[import-untyped]

from clesr.pipeline.sources.v4l2 import capture
from clesr.pipeline.sources.v4l2.inputs import input_names, standard_names, timings_offered
from clesr.pipeline.sources.v4l2.modes import buffer_type, offered_formats, offered_rates, offered_sizes


def camera_lines() -> Iterator[str]:
    """A line for each camera, its address first, and below it what it offers and clesr can read."""
    for path in sorted(capture.FOLDER.glob("video*")):
        device = v4l2.Device(str(path))
        try:
            device.open()
        except OSError as error:
            yield f"{path}  cannot be opened ({error.strerror})"
            continue
        with contextlib.closing(device), contextlib.suppress(OSError):
            if buffer_type(device) is not None:
                yield f"{path}  {device.info.card}"
                yield from _offers(device)


def _offers(device: v4l2.Device) -> Iterator[str]:
    formats = offered_formats(device)
    if not formats:
        yield "    no pixel format that clesr reads"
    for known in formats:
        for words, size in offered_sizes(device, known):
            rates = sorted({high for _, high in offered_rates(device, known, size)}) if size else []
            at = f" at {', '.join(f'{rate:g}' for rate in rates)} frames/s" if rates else ""
            yield f"    format={known.name}&size={words}{at}"
    inputs = input_names(device)
    for what, names in (
        ("input", inputs.values() if len(inputs) > 1 else ()),
        ("standard", standard_names(device)),
        ("timings", timings_offered(device)),
    ):
        if names:
            yield f"    {what}: {', '.join(names)}"
