"""Whether it keeps working: hours of live frames with a fault a minute, recorded into sessions one after the other.

python benchmarks/soak.py [--hours 2] [--every 60] [--isolate] [--output FILE]

`clesr-live` runs as a user starts it. Its memory, handles and threads, those of its children too, and its latency are
looked at every few seconds, and the slope of each is told with its 95 % interval. Each session is verified when the
next one has begun, then removed. Fails where something grows, a session does not hold, or a raw frame is missing.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from common import environment

from clesr.engines.common.files import OWN, write_json

EVERY_S = 5.0  # between two looks
BLOCK_S = 120.0  # of which one median counts as a point of a slope: faults last a few seconds
WARM = 0.1  # of the time, in which caches fill; at least a block is left out
LIMITS = {"memory_mb": 1.0, "latency_ms": 1.0, "handles": 1.0, "threads": 1.0}  # an hour
BETWEEN_S = 5.0  # at most from the end of one session to the first frame of the next, where one is ordered
CLOSE_S = 300.0  # for the run to end after its time
BUCKET = re.compile(r'clesr_latency_seconds_(sum|count)\{stage="total",stream="live"\} (\S+)')


@dataclass
class Watch:
    """What was seen of the process at ``address`` and ``pid``."""

    process: psutil.Process
    address: str
    rows: list[dict[str, float]] = field(default_factory=list)
    _before: tuple[float, float] = (0.0, 0.0)

    def look(self, seconds: float) -> None:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found = {name: float(value) for name, value in BUCKET.findall(text)}
        total, count = found["sum"], found["count"]
        if count > self._before[1]:
            processes = [self.process, *self.process.children(recursive=True)]
            row = {
                "seconds": seconds,
                "memory_mb": sum(one.memory_info().rss for one in processes) / 1e6,
                "latency_ms": 1e3 * (total - self._before[0]) / (count - self._before[1]),
                "handles": float(sum(one.num_fds() for one in processes)),
                "threads": float(sum(one.num_threads() for one in processes)),
            }
            self.rows.append(row)
            self._before = total, count


def slope(rows: Sequence[dict[str, float]], name: str) -> dict[str, float]:
    """How much ``name`` grows an hour, with the 95 % interval, by least squares over the medians of blocks."""
    begin = max(BLOCK_S, WARM * rows[-1]["seconds"])
    blocks: dict[int, list[float]] = {}
    for row in rows:
        if row["seconds"] >= begin:
            blocks.setdefault(int(row["seconds"] // BLOCK_S), []).append(row[name])
    hours = np.array([(block + 0.5) * BLOCK_S / 3600 for block in blocks])
    values = np.array([float(np.median(block)) for block in blocks.values()])
    if len(hours) < 3:
        raise click.UsageError("the run is too short for a slope; give more --hours")
    deviation = hours - hours.mean()
    found = float(deviation @ values / (deviation @ deviation))
    rest = values - values.mean() - found * deviation
    error = float(np.sqrt(rest @ rest / (len(hours) - 2) / (deviation @ deviation)))
    return {
        "per_hour": round(found, 3),
        "low": round(found - 1.96 * error, 3),
        "high": round(found + 1.96 * error, 3),
        "median": round(float(np.median(values)), 3),
    }


def unaccounted(made: dict[str, Any]) -> list[str]:
    """What the counts of the run and of its sessions leave open, in words."""
    totals, between = made["totals"], made["between_sessions"]
    raw = totals["captured"] - totals.get("lost-at-source", 0) - totals.get("corrupt", 0)
    found = [] if totals["raw"] == raw else [f"{totals['raw']} raw frames of {raw} are recorded"]
    if not 0 <= between <= made["rotations"] * BETWEEN_S * made["fps"]:
        found.append(f"{between} frames are in no session")
    return found


class Sessions:
    """The sessions of the run, verified one after the other beside it and removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seen: list[dict[str, Any]] = []
        self.totals: Counter[str] = Counter()

    def settle(self, *, all_of_them: bool) -> None:
        found = sorted(
            (p for p in self._folder.iterdir() if p.is_dir()), key=lambda path: path.stat().st_mtime
        )
        for session in found if all_of_them else found[:-1]:
            manifest = session / "session.json"
            if all_of_them or (manifest.exists() and json.loads(manifest.read_text())["closed"]):
                self._verify(session)

    def _verify(self, session: Path) -> None:
        file = self._folder / "certificate.json"
        program = [sys.executable, "-c", "from clesr.tools.entry import main; main()"]
        command = ["nice", "-n", "19", *program, "verify", str(session), "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        certificate = json.loads(file.read_text())
        file.unlink()
        self.seen.append({"status": done.returncode, "verdict": done.stdout.strip().splitlines()[-1]})
        self.totals.update(
            {name: count for name, count in certificate["totals"].items() if isinstance(count, int)}
        )
        shutil.rmtree(session)


def run(
    hours: float,
    fps: float,
    size: int,
    scale: int,
    every: float,
    rotate: float,
    folder: Path,
    *,
    isolate: bool,
) -> dict[str, Any]:
    command = [
        sys.executable, "-c", "from clesr.tools.entry import live_main; live_main()",
        "--source", f"demo:?size={size}&fps={fps:g}", "--scale", str(scale), "--model", "fast", "--display", "none",
        "--record", str(folder / "s"), "--metrics", "127.0.0.1:0", "--chaos", f"every={every:g},seed=1",
        "--seconds", str(hours * 3600), "--summary", str(folder.parent / "summary.json"),
        *(["--isolate"] if isolate else []),
    ]  # fmt: skip
    live = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert live.stderr is not None
    said: list[str] = []
    address = threading.Event()
    places: list[str] = []

    def read() -> None:
        assert live.stderr is not None
        for line in live.stderr:
            said.append(line.rstrip())
            if found := re.search(r"metrics: http://(\S+)/metrics", line):
                places.append(found[1])
                address.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    if not address.wait(120):
        live.kill()
        raise click.ClickException("clesr-live did not start: " + " | ".join(said[-5:]))
    watch, sessions = Watch(psutil.Process(live.pid), places[0]), Sessions(folder)
    begin, rotated, rotations, over = time.monotonic(), 0.0, 0, threading.Event()

    def settle() -> None:  # beside the watch: to verify a session takes minutes on a busy machine
        while not over.wait(EVERY_S):
            sessions.settle(all_of_them=False)

    settling = threading.Thread(target=settle)
    settling.start()
    while live.poll() is None:
        time.sleep(EVERY_S)
        seconds = time.monotonic() - begin
        if seconds > hours * 3600 + CLOSE_S:
            live.kill()
        try:
            watch.look(seconds)
        except (OSError, psutil.NoSuchProcess):
            continue  # it has ended
        if seconds - rotated > rotate and seconds < hours * 3600 - rotate / 2:
            rotated, rotations = seconds, rotations + 1
            for _ in range(2):  # end one, begin the next
                live.send_signal(signal.SIGUSR1)
                time.sleep(1.0)
    over.set()
    settling.join()
    reader.join(20)
    sessions.settle(all_of_them=True)
    slopes = {name: slope(watch.rows, name) for name in LIMITS}
    faults = Counter(line.split("chaos: ")[1].split(" for ")[0] for line in said if "chaos: " in line)
    summary = json.loads((folder.parent / "summary.json").read_text())
    kept = watch.rows[:: max(1, len(watch.rows) // 240)]
    return {
        "hours": hours, "fps": fps, "size": size, "scale": scale, "fault_every_s": every,
        "isolate": isolate,
        "status": live.returncode,
        "captured": summary["captured"],
        "outcomes": summary["outcomes"],
        "faults": dict(sorted(faults.items())),
        "slopes": slopes,
        "rotations": rotations,
        "sessions": sessions.seen,
        "totals": dict(sessions.totals),
        "between_sessions": summary["captured"] - sessions.totals["captured"],
        "rows": [{name: round(value, 2) for name, value in row.items()} for row in kept],
    }  # fmt: skip


@click.command()
@click.option("--hours", default=2.0, show_default=True)
@click.option("--fps", default=25.0, show_default=True)
@click.option("--size", default=128, show_default=True, help="LR pixels a side.")
@click.option("--scale", default=4, show_default=True)
@click.option("--every", default=60.0, show_default=True, help="Seconds from one fault to the next.")
@click.option("--rotate", default=600.0, show_default=True, help="Seconds of a session.")
@click.option("--isolate", is_flag=True, help="The engine in a process of its own.")
@click.option("--output", default="benchmarks/results/soak.json", show_default=True)
def main(
    hours: float, fps: float, size: int, scale: int, every: float, rotate: float, isolate: bool, output: str
) -> None:
    """Run for HOURS and watch; for a day: --hours 24."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = Path(folder) / "sessions"
        sessions.mkdir()
        made = run(hours, fps, size, scale, every, rotate, sessions, isolate=isolate)
    broken = [
        seen["verdict"]
        for seen in made["sessions"]
        if seen["status"] not in (0, 1) or "holds" not in seen["verdict"]
    ]
    grown = {name: found for name, found in made["slopes"].items() if found["per_hour"] > LIMITS[name]}
    broken += unaccounted(made)
    result = {"environment": environment(), **made, "broken": broken, "grown": sorted(grown)}
    write_json(Path(output), result, OWN)
    for name, found in made["slopes"].items():
        print(
            f"{name}: {found['median']:g}, {found['per_hour']:+g} an hour ({found['low']:g} to {found['high']:g})"
        )
    print(
        f"{made['captured']} frames: {made['outcomes']}; {len(made['sessions'])} sessions, {len(broken)} do not hold"
    )
    if broken or grown or made["status"]:
        raise SystemExit(
            f"status {made['status']}, grown: {', '.join(grown) or 'nothing'}, broken: {broken or 'none'}"
        )


if __name__ == "__main__":
    main()
