"""A recorded session, checked and read into NumPy arrays.

    clesr live --source demo: --display none --record session --seconds 5
    python examples/read_session.py session

A frame that was lost or came damaged has no images: None stands in their place.
"""

from __future__ import annotations

import sys

import numpy as np

import clesr


def main(folder: str) -> None:
    session = clesr.Session(folder)
    certificate = session.verify()
    print(f"{session.info.source}: {'nothing was changed' if certificate.holds else certificate.problems}")

    frames = list(session)
    for frame in frames:
        print(f"frame {frame.number} at {frame.time:.3f} s: {frame.outcome}")

    raw = np.stack([frame.raw for frame in frames if frame.raw is not None])
    sr = np.stack([frame.sr for frame in frames if frame.sr is not None])
    print(f"captured {raw.shape} {raw.dtype}, up-scaled {sr.shape} {sr.dtype}")


if __name__ == "__main__":
    main(sys.argv[1])
