"""Blocks of the documents, a function each: what it withstands, and what the tests notice."""

from __future__ import annotations

import sys
from statistics import median

from blocks.results import RESULTS, load, table, where

sys.path.insert(0, str(RESULTS.parent.parent / "tests" / "helpers"))
import fault_matrix


def faults() -> str:
    """Faults on purpose, and what becomes of a run."""
    return fault_matrix.table()


def memory() -> str:
    """The soak."""
    data = load("memory")
    return (
        f"Over {data['captured']} frames resident memory went from {data['rss_mb_at_tenth']} MB (after a tenth) to "
        f"{data['rss_mb_at_end']} MB: {data['slope_bytes_a_frame']:.0f} bytes a frame."
    )


def _slope(one: dict[str, float]) -> list[float]:
    """What grows in an hour, and its interval, without a minus before nothing."""
    return [round(one[name], 1) + 0.0 for name in ("per_hour", "low", "high")]


def soak() -> str:
    """Hours of frames with faults."""
    data = load("soak")
    names = {
        "memory_mb": "memory, MB",
        "latency_ms": "latency, ms",
        "handles": "handles",
        "threads": "threads",
    }
    rows = [
        [
            words,
            f"{data['slopes'][name]['median']:.0f}",
            *(f"{grows:+.1f}" for grows in _slope(data["slopes"][name])),
        ]
        for name, words in names.items()
    ]
    held = len(data["sessions"]) - len(data["broken"])
    said = (
        f"{data['hours']:g} hours at {data['fps']:g} frames/s, {data['size']}x{data['size']} pixels x{data['scale']}, "
        f"{sum(data['faults'].values())} faults: {data['captured']:,} frames, {held} of {len(data['sessions'])} "
        "sessions hold."
    )
    shown = table(["", "median", "more in an hour", "by 95 % at least", "at most"], rows)
    return f"{where(data['environment'])}{said}\n\n{shown}"


def switching() -> str:
    """Switches of scale while all is recorded."""
    data = load("switching")
    recorded, seen, memory = data["recorded"], data["pictures"], data["memory_mib"]
    half = len(memory) // 2
    return (
        f"{data['switches']} switches x2, x4, x8, x4 while {recorded['frames']} frames were recorded: "
        f"{recorded['complete']} of {recorded['sessions']} sessions are complete, {recorded['missing']} frames are "
        f"missing. Of {seen['seen']} pictures on the page {seen['black']} were black and {seen['wrong_size']} of a "
        f"wrong size. A switch took {data['ms']['p50'] / 1000:.1f} s in the median. Memory: "
        f"{median(memory[:half]):.0f} MiB in the first half, {median(memory[half:]):.0f} MiB in the second."
    )


def mutants() -> str:
    """The planted faults: how many the tests notice, and the others with the reason why they stay."""
    data = load("mutants")
    counts = [
        [f"`{m['module']}`", str(m["possible"]), str(m["tried"]), str(m["noticed"])] for m in data["modules"]
    ]
    total = [str(sum(m[what] for m in data["modules"])) for what in ("possible", "tried", "noticed")]
    left = [
        [
            f"`{m['module']}`, `{m['function'] or 'the module'}`",
            _code(m["line"]),
            _code(m["fault"]),
            m["reason"],
        ]
        for m in data["survivors"]
    ]
    return "\n\n".join(
        [
            table(["module", "possible", "tried", "noticed"], [*counts, ["all", *total]]),
            "Not noticed:",
            table(["where", "line", "fault", "why it stays"], left),
        ]
    )


def _code(line: str) -> str:
    return "`" + line.replace("|", "\\|") + "`"


def cases() -> str:
    """Files of the kinds that people report as trouble, and what clesr makes of them."""
    rows = [
        [
            f"`{row['file']}`",
            row["right"],
            row["reported"],
            "right" if not row["wrong"] else f"**{row['wrong']}**",
        ]
        for row in load("cases")["rows"]
    ]
    return table(["file", "what is right", "reported in", "found"], rows)


def fuzz() -> str:
    """Damaged inputs that readers were tried on: what ``fuzz.run --add`` summed up."""
    found = load("fuzz")["targets"]
    rows = [[f"`{row['target']}`", f"{row['inputs']:,}", str(row["findings"])] for row in found]
    inputs, findings = (sum(row[name] for row in found) for name in ("inputs", "findings"))
    rows.append(["all", f"{inputs:,}", str(findings)])
    return table(["target", "inputs", "findings"], rows)


def overload() -> str:
    """A source of three times the engine's rate, for minutes."""
    result = load("overload")
    rows = []
    for row in result["rows"]:
        ages = " / ".join(f"{row['age_ms'][name]:.0f}" for name in ("p50", "p99", "p99.9", "most"))
        rows.append(
            [
                f"{row['engine']}, {row['size']}x{row['size']}",
                f"{row['engine_ms']:.0f}",
                f"{1e3 / row['period_ms']:.0f}",
                f"{row['limit_ms']:.0f}",
                ages,
                " / ".join(f"{row['sleeper_late_ms'][name]:.0f}" for name in ("p50", "p99", "p99.9", "most")),
                f"{row['captured']:,}",
                f"{row['shown']:,}",
                f"{row['outcomes']['stale']:,}",
                f"{row['raw']:,}" + ("" if row["complete"] else " **incomplete**"),
            ]
        )
    head = ["engine", "its ms", "frames/s of the source", "limit, ms", "age when shown, ms: p50 / p99 / p99.9 / most",
            "a sleeper is late, ms",
            "captured", "shown", "stale", "raw recorded"]  # fmt: skip
    seconds = result["rows"][0]["seconds"]
    said = f"{seconds / 60:.0f} minutes each; load of the machine before: {result['machine']['load']:.1f}."
    return f"{where(result)}{said}\n\n{table(head, rows)}"
