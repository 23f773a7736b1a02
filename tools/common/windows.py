"""Windows that are there before anything else: what is being opened can be seen while it is."""

from __future__ import annotations

from collections.abc import Sequence

from clesr.engines.common.text import presentable
from clesr.pipeline.settings import LiveSettings
from clesr.pipeline.sinks.placement import TITLE, Keyboard, WindowPlacement
from clesr.pipeline.sinks.window.connection import WindowProcess


def open_windows(all_settings: Sequence[LiveSettings]) -> list[WindowPlacement]:
    """Where the window of each stream stands, opened where the stream is to have one; does not wait for it. Raises
    SinkError where no process can be started."""
    keyboard, count = Keyboard(), len(all_settings)
    places: list[WindowPlacement] = []
    for index, settings in enumerate(all_settings):
        title = f"{TITLE}: {settings.stream}" if count > 1 else TITLE
        process = WindowProcess(title, index, count) if settings.display == "window" else None
        places.append(WindowPlacement(title, index, count, keyboard, process))
        announce(places[-1:], f"opening {presentable(settings.source)}")
    return places


def announce(places: Sequence[WindowPlacement], *lines: str) -> None:
    """Have the windows say what is being opened, the last of ``lines`` now."""
    for place in places:
        if place.opened is not None:
            place.opened.announce(*lines)


def close_windows(places: Sequence[WindowPlacement]) -> None:
    """Close those that no sink has taken over and closed."""
    for place in places:
        if place.opened is not None:
            place.opened.end()
