"""That after the first frame the GPU engine allocates nothing and waits nowhere but in ``collect``, by a profile.

python benchmarks/steady.py [--frames 200] [--dry]

Allocations are torch's own counters of device memory; waits are the calls into the CUDA runtime that stop the host, as
torch.profiler saw them. With --dry the way is gone with PyTorch on a processor, which has neither.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import click
import torch
from stage import folder, leave, tell

from clesr.engines.backends.cuda import engine as cuda_engine
from clesr.engines.backends.torch import open_torch
from clesr.engines.engine import Engine
from clesr.engines.models.weights import find_model
from clesr.tools.bench.images import lr_and_hr

WAITS = (
    "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy", "cudaMalloc", "cudaFree", "cudaHostAlloc",
    "cudaHostRegister", "cudaStreamWaitEvent",
)  # fmt: skip
ALLOWED = "cudaEventSynchronize"  # in collect, once a frame at most
COUNTERS = ("allocation.all.allocated", "segment.all.allocated", "num_alloc_retries", "num_device_alloc")
RANGE = "clesr steady state"


def judge(calls: Mapping[str, int], allocated: Mapping[str, int], frames: int) -> list[str]:
    """What is against the promise: one line for each."""
    found = [f"{name} was called {count} times" for name, count in calls.items() if name in WAITS and count]
    if calls.get(ALLOWED, 0) > frames:
        found.append(f"{ALLOWED} was called {calls[ALLOWED]} times for {frames} frames")
    return found + [f"{name} grew by {count}" for name, count in allocated.items() if count]


def allocations() -> dict[str, int]:
    """torch's counters; none without a GPU."""
    if not torch.cuda.is_available():
        return {}
    stats = torch.cuda.memory_stats()
    return {name: int(stats.get(name, 0)) for name in COUNTERS}


def run_frames(engine: Engine, lr: Any, frames: int) -> None:
    """``frames`` frames with all slots in flight."""
    for _ in range(engine.depth):
        engine.submit(lr)
    for _ in range(frames - engine.depth):
        engine.collect()
        engine.submit(lr)
    for _ in range(engine.depth):
        engine.collect()


def calls_within(profile: torch.profiler.profile) -> Counter[str]:
    """The names of all CPU-side events of the profile that lie in RANGE."""
    events = list(profile.events() or [])  # type: ignore[no-untyped-call]
    spans = [e.time_range for e in events if e.name == RANGE and e.device_type.name == "CPU"]
    start, end = spans[0].start, spans[0].end
    return Counter(
        e.name
        for e in events
        if e.device_type.name == "CPU" and start <= e.time_range.start <= end and e.name != RANGE
    )


def measure(engine: Engine, shape: tuple[int, int], frames: int, trace: str | None) -> dict[str, Any]:
    """One engine's frames under the profiler, after a first round that makes everything."""
    lr, _ = lr_and_hr(engine.info.scale, shape)
    run_frames(engine, lr, engine.depth * 2)
    before = allocations()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile, torch.profiler.record_function(RANGE):
        run_frames(engine, lr, frames)
    grown = {name: count - before[name] for name, count in allocations().items()}
    calls = calls_within(profile)
    if trace:
        profile.export_chrome_trace(trace)
    return {
        "engine": str(engine.info),
        "lr": list(shape),
        "frames": frames,
        "calls": dict(calls.most_common(20)),
        "grown": grown,
        "against": judge(calls, grown, frames),
    }


@click.command()
@click.option("--frames", type=click.IntRange(min=4), default=200, show_default=True)
@click.option("--dry", is_flag=True, help="With PyTorch on a processor, tiny.")
def main(frames: int, dry: bool) -> None:
    """Profile, print and write steady.json and a trace for chrome://tracing; exit 1 where the promise is broken."""
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not dry:
        raise click.ClickException("there is no NVIDIA GPU here; --dry goes the same way on a processor")
    shape = (16, 16) if dry else (256, 256)
    rows, headline = [], list[str]()
    for name in ("fast",) if dry else ("densenet", "fast"):
        model = find_model(name, 4)
        engine: Engine = (
            cuda_engine.open_cuda(model, shape) if on_gpu else open_torch(model, shape, None, device="cpu")
        )
        try:
            row = measure(engine, shape, frames, str(folder() / f"trace-{name}.json.gz") if on_gpu else None)
        finally:
            engine.close()
        waits = f"no allocation, {row['calls'].get(ALLOWED, 0)} waits in collect, in {frames} frames"
        rows.append(row)
        headline.append(f"{row['engine']}: {'; '.join(row['against']) or waits}")
        tell(headline[-1], **row)
    sys.exit(leave("steady", not any(row["against"] for row in rows), headline, dry=dry, rows=rows))


if __name__ == "__main__":
    main()
