"""How busy the cores are that this process may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.processor import cores

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class CoreUse:
    """What was used, by whomever, of the cores that this process may use: those that it is bound to (``taskset``), and
    of a quota of control groups (a container's ``--cpus``; cgroups(7)). 0 where the system does not tell."""

    def __init__(self, clock: Clock = SYSTEM, proc: Path = PROC, groups: Path = GROUPS) -> None:
        self._clock = clock
        self._quotas = list(_quotas(proc, groups))
        self._asked_ns = clock.now_ns()
        self._cores = _core_times()
        self._groups = [_group_s(group) for group, _ in self._quotas]

    def percent(self) -> float:
        """Percent of it since this was last asked."""
        before, self._cores = self._cores, _core_times()
        groups, self._groups = self._groups, [_group_s(group) for group, _ in self._quotas]
        seconds = (self._clock.now_ns() - self._asked_ns) / 1e9
        self._asked_ns = self._clock.now_ns()
        found = [_percent(before, self._cores)]
        if seconds > 0:
            used = zip(groups, self._groups, self._quotas, strict=True)
            found += [100 * (now_s - then_s) / (seconds * quota) for then_s, now_s, (_, quota) in used]
        return max(found)


CoreTimes = list[tuple[float, float]]  # of each core: seconds in use, and all


def _core_times() -> CoreTimes:
    try:
        times = psutil.cpu_times(percpu=True)
    except (OSError, RuntimeError):
        return []
    return [_used_and_all(each._asdict()) for each in times]


def _used_and_all(times: dict[str, float]) -> tuple[float, float]:
    """The times of guests are in those of the programs that run them."""
    whole = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    return whole - times["idle"] - times.get("iowait", 0.0), whole


def _percent(before: CoreTimes, now: CoreTimes) -> float:
    both = list(zip(before, now, strict=False))
    ours = [both[core] for core in cores() if core < len(both)] or both
    used, whole = (sum(after[at] - then[at] for then, after in ours) for at in (0, 1))
    return 100 * used / whole if whole > 0 else 0.0


def _quotas(proc: Path, groups: Path) -> Iterator[tuple[Path, float]]:
    """The control groups of this process that have a quota, and of how many cores; also those of version 1."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for kinds, path in (line.split(":", 2)[1:] for line in lines if line.count(":") >= 2):
        if kinds and "cpu" not in kinds.split(","):
            continue
        for each in (PurePosixPath(path), *PurePosixPath(path).parents):
            group = groups / kinds / each.relative_to("/")
            with suppress(OSError, ValueError):
                quota, period = _limit(group)
                if quota not in ("max", "-1"):
                    yield group, int(quota) / int(period)


def _limit(group: Path) -> list[str]:
    """Microseconds of a core in each period of so many, which ``group`` may use."""
    file = group / "cpu.max"
    if file.exists():
        return file.read_text().split()
    return [(group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")]


def _group_s(group: Path) -> float:
    """Seconds of a core that ``group`` has used."""
    with suppress(OSError):  # version 1, whose folders of cpu and cpuacct are one
        return int((group / "cpuacct.usage").read_text()) / 1e9
    try:
        lines = (group / "cpu.stat").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("usage_usec")), 0.0)
