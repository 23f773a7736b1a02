"""How busy the cores are that this process may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.processor import cores

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class CoreUse:
    """What was used, by whomever, of the cores that this process may use: those that it is bound to (``taskset``), and
    of a quota of control groups (a container's ``--cpus``; cgroups(7), version 2). 0 where the system does not tell."""

    def __init__(self, clock: Clock = SYSTEM, proc: Path = PROC, groups: Path = GROUPS) -> None:
        self._clock, self._stat = clock, proc / "stat"
        self._quotas = list(_quotas(proc, groups))
        self._asked_ns = clock.now_ns()
        self._cores = _core_times(self._stat)
        self._groups = [_group_s(group) for group, _ in self._quotas]

    def percent(self) -> float:
        """Percent of it since this was last asked."""
        before, self._cores = self._cores, _core_times(self._stat)
        groups, self._groups = self._groups, [_group_s(group) for group, _ in self._quotas]
        seconds = (self._clock.now_ns() - self._asked_ns) / 1e9
        self._asked_ns = self._clock.now_ns()
        found = [_percent(before, self._cores)]
        if seconds > 0:
            used = zip(groups, self._groups, self._quotas, strict=True)
            found += [100 * (now_s - then_s) / (seconds * quota) for then_s, now_s, (_, quota) in used]
        return max(found)


CoreTimes = dict[int, tuple[int, int]]  # by core: ticks in use, and all


def _core_times(stat: Path) -> CoreTimes:
    """proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return {}
    found = {}
    for name, *fields in lines:
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(field) for field in fields[:8]]
            found[int(name[3:])] = sum(ticks) - sum(ticks[3:5]), sum(ticks)
    return found


def _percent(before: CoreTimes, now: CoreTimes) -> float:
    ours = [core for core in now if core in before and core in cores()]
    used, total = (
        sum(now[core][at] - before[core][at] for core in ours or now.keys() & before.keys()) for at in (0, 1)
    )
    return 100 * used / total if total > 0 else 0.0


def _quotas(proc: Path, groups: Path) -> Iterator[tuple[Path, float]]:
    """The control groups of this process that have a quota, and of how many cores."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for path in (line.removeprefix("0::") for line in lines if line.startswith("0::")):
        for each in (PurePosixPath(path), *PurePosixPath(path).parents):
            group = groups / each.relative_to("/")
            try:
                quota, period = (group / "cpu.max").read_text().split()
            except OSError:
                continue
            if quota != "max":
                yield group, int(quota) / int(period)


def _group_s(group: Path) -> float:
    """Seconds of a core that ``group`` has used."""
    try:
        lines = (group / "cpu.stat").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("usage_usec")), 0.0)
