"""The program that decodes a session beside a live stream. It lets others go first where they want a core.

A thread of that priority would not do: while it waits for a core it may hold Python's lock, and all else waits with it.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import ClesrError, first_line
from clesr.engines.common.parent import end_with_parent
from clesr.engines.common.processor import give_way


def send_certificate(connection: Connection[Any, Any], folder: Path) -> None:
    """How many images were looked at, now and then, and at last the certificate as JSON."""
    from clesr.pipeline.session.verify import verify

    connection.send(verify(folder, connection.send).as_json())


def send_images(connection: Connection[Any, Any], folder: Path, which: Any) -> None:
    """Each image of ``raw`` or ``sr``: seconds since the first, (H, W) uint8, and what is known of it, as JSON."""
    from clesr.engines.view import eight_bits
    from clesr.pipeline.session.reader import read_session

    for record, image in read_session(folder).images(which):
        known = {
            "number": record.number,
            "outcome": str(record.outcome),
            "fidelity": record.fidelity,
            "frames": record.frames,
            "damaged": record.damaged,
        }
        connection.send(((record.ticks or 0) / 1000, eight_bits(image), known))


def main() -> None:
    """Send what is asked for, then None; a text is why it could not be."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    give_way()  # before any other thread, and the modules that take long to load
    end_with_parent()
    descriptor, folder, what = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    with Connection(descriptor) as connection, suppress(BrokenPipeError):
        try:
            if what == "certificate":
                send_certificate(connection, folder)
            else:
                send_images(connection, folder, what)
            connection.send(None)
        except ClesrError as error:
            connection.send(first_line(error))


if __name__ == "__main__":
    main()
