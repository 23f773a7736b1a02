"""What switching the scale of a running `clesr-live` costs while it records: x4, x8, x4, x2 in turn by the control
socket, with a page that looks at every picture it gets, without loss.

python benchmarks/switching.py [--switches 50] [--size 128] [--fps 12] [--output FILE]

Whether each recorded frame is there is said by `verify`; whether a picture was black, or of another size than that of
its scale, by the pictures; how memory goes by the highest of each four switches, which have every scale.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import ROOT, environment, percentiles
from websockets.exceptions import ConnectionClosed

from clesr.engines.common.files import OWN, write_json
from clesr.pipeline.operator.control_socket import ask
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.verify import verify

sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from browser_view import Seen, looking

ORDER = (4, 8, 4, 2)
FIRST = 2
BRIGHT = 20.0  # grey levels that tissue has on average, and a black picture has not
PATIENCE_S = 120.0


@dataclass
class Program:
    """`clesr-live` with a page at ``url`` and orders taken at ``control``."""

    process: subprocess.Popen[str]
    url: str
    control: str

    def ask(self, **request: Any) -> dict[str, Any]:
        told = ask(self.control, request, PATIENCE_S)
        if not told["ok"]:
            raise SystemExit(f"{request}: {told['error']}")
        return told

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.ask(status=True)["status"]
        return status

    def memory(self) -> float:
        """MiB that it holds."""
        (kib,) = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(kib) / 1024


@contextmanager
def running(folder: Path, size: int, fps: float) -> Iterator[Program]:
    control = f"zmq+ipc://{folder}/control"
    command = [
        sys.executable, "-c", "from clesr.tools.entry import live_main; live_main()", "--source",
        f"demo:?size={size}&fps={fps:g}", "--model", "fast", "--scale", str(FIRST), "--record", "session",
        "--display", "browser", "--listen", "127.0.0.1:0", "--control", control,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = (re.search(r"open in a browser: (\S+?)/?$", line) for line in process.stderr)
        url = next(match[1] for match in found if match)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield Program(process, url, control)
        process.wait(PATIENCE_S)
    finally:
        process.kill()


class Pictures:
    """Looks at what the page gets, without loss, until the run ends."""

    def __init__(self, url: str, size: int) -> None:
        self.scales: list[int] = []
        self.black = self.wrong = 0
        self._url, self._size = url, size
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def _look(self) -> None:
        with looking(self._url) as looker:
            looker.send(quality=0)
            try:
                while True:
                    seen = looker.next()
                    if isinstance(seen, Seen):
                        looker.send(ack=seen.header["id"])
                        self._judge(seen)
            except ConnectionClosed:
                return

    def _judge(self, seen: Seen) -> None:
        image, scale = seen.image, int(seen.header["scale"])
        self.scales.append(scale)
        self.black += bool(image.mean() < BRIGHT)
        self.wrong += image.shape != (scale * self._size, scale * self._size)


def switch(program: Program, scale: int) -> float:
    """Seconds from the order until an image of ``scale`` is there."""
    begun = time.perf_counter()
    program.ask(action="scale", arguments={"value": scale})
    while (status := program.status())["scale"] != scale or status["switching"]:
        if status["switch_error"] or time.perf_counter() - begun > PATIENCE_S:
            raise SystemExit(f"x{scale} did not take over: {status['switch_error']}")
        time.sleep(0.02)
    return time.perf_counter() - begun


def recorded(folder: Path) -> dict[str, Any]:
    """What the sessions have, and whether anything between them is missing."""
    sessions = sorted(
        (read_session(path.parent) for path in folder.glob("session*/session.json")),
        key=lambda session: session.info.first,
    )
    records = [record for session in sessions for record in session.records()]
    ends = [record.number + record.count for record in records]
    begins = [record.number for record in records[1:]]
    certificates = [verify(session.folder) for session in sessions]
    return {
        "sessions": len(sessions),
        "complete": sum(certificate.complete for certificate in certificates),
        "frames": len(records),
        "missing": sum(begin - end for begin, end in zip(begins, ends, strict=False)),
    }


@click.command()
@click.option("--output", default="benchmarks/results/switching.json", show_default=True)
@click.option("--switches", default=50, show_default=True)
@click.option("--size", default=128, show_default=True)
@click.option("--fps", default=12.0, show_default=True)
def main(output: str, switches: int, size: int, fps: float) -> None:
    """Measure and write JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder, waits, memory = Path(name), list[float](), list[float]()
        with running(folder, size, fps) as program:
            pictures = Pictures(program.url, size)
            while not program.status()["recording_s"]:
                time.sleep(0.1)
            for number in range(switches):
                waits.append(switch(program, ORDER[number % len(ORDER)]))
                memory.append(program.memory())
            outcomes = program.status()["outcomes"]
            program.ask(action="quit", arguments={"sure": True})
            pictures.wait()
        found = recorded(folder)
    highest = [max(memory[i : i + len(ORDER)]) for i in range(0, switches - len(ORDER) + 1, len(ORDER))]
    result = {
        "benchmark": "switching",
        **environment(),
        "size": size,
        "fps": fps,
        "switches": switches,
        "ms": percentiles(waits),
        "recorded": found,
        "outcomes": outcomes,
        "pictures": {
            "seen": len(pictures.scales),
            "scales": sorted(set(pictures.scales)),
            "black": pictures.black,
            "wrong_size": pictures.wrong,
        },
        "memory_mib": [round(each, 1) for each in highest],
        "memory_slope_mib": round(float(np.polyfit(range(len(highest)), highest, 1)[0]) / len(ORDER), 3),
    }
    write_json(Path(output), result, OWN)
    click.echo(f"{result}\nwrote {output}")


if __name__ == "__main__":
    main()
