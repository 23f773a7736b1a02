"""How busy the cores are that this process may use: as Linux tells it, in files that tests write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support import ManualClock, until

from clesr.engines.common import processor
from clesr.engines.common.core_use import CoreUse


class Machine:
    """Of ``cores``, with the files in ``folder`` in which Linux tells of them."""

    def __init__(
        self,
        folder: Path,
        patch: pytest.MonkeyPatch,
        cores: int,
        group: str = "/",
        quotas: dict[str, str] | None = None,
    ) -> None:
        self.clock, self.proc, self.groups = ManualClock(), folder / "proc", folder / "cgroup"
        self.ticks = [[0, 0] for _ in range(cores)]  # of each core: in use, idle
        self.used_s = 0.0
        self.quotas = quotas or {}
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/cgroup").write_text(f"9:name=systemd:/\n0::{group}\n")
        for name, quota in self.quotas.items():
            (self.groups / name).mkdir(parents=True, exist_ok=True)
            (self.groups / name / "cpu.max").write_text(f"{quota}\n")
        self.passes(0.0)
        patch.setattr(psutil, "PROCFS_PATH", str(self.proc))
        self.use = CoreUse(self.clock, self.proc, self.groups)

    def passes(self, seconds: float, *shares: float, group: float = 0.0) -> None:
        """``seconds`` in which of each core a share was used, and ``group`` cores by the process's group."""
        self.clock.advance(seconds)
        for core, share in zip(self.ticks, shares, strict=False):
            core[0] += round(100 * seconds * share)
            core[1] += round(100 * seconds * (1 - share))
        lines = [f"cpu{n} {used} 0 0 {idle} 0 0 0 0 0 0" for n, (used, idle) in enumerate(self.ticks)]
        (self.proc / "stat").write_text("\n".join(["cpu  1 2 3 4 5 6 7 8 9 10", *lines, "intr 1 2", ""]))
        self.used_s += seconds * group
        for name in self.quotas:
            (self.groups / name / "cpu.stat").write_text(
                f"usage_usec {round(self.used_s * 1e6)}\nuser_usec 0\n"
            )


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Have this process bound to some cores."""
    return lambda cores: monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)


@pytest.mark.parametrize(
    ("cores", "percent"), [({0}, 100), ({1}, 10), ({0, 1}, 55), ({0, 1, 2, 3}, 30), ({7}, 30)]
)
def test_only_the_cores_count_that_the_process_is_bound_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bound: Callable[[set[int]], None],
    cores: set[int],
    percent: float,
) -> None:
    """All where their numbers are not those of the machine."""
    bound(cores)
    machine = Machine(tmp_path, monkeypatch, 4)
    machine.passes(5.0, 0.5, 0.5, 0.5, 0.5)
    machine.use.percent()
    machine.passes(1.0, 1.0, 0.1, 0.1, 0.0)
    assert machine.use.percent() == pytest.approx(percent)


@pytest.mark.parametrize(
    ("group", "quotas", "percent"),
    [
        ("/", {"": "200000 100000"}, 95),
        ("/docker/me", {"docker/me": "max 100000", "docker": "200000 100000"}, 95),
        ("/docker/me", {"docker/me": "400000 100000", "docker": "max 100000"}, 47.5),
        ("/docker/me", {"docker/other": "100000 100000"}, 20),
        ("/", {}, 20),
    ],
)
def test_a_container_that_has_used_its_quota_is_busy_on_an_idle_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bound: Callable[[set[int]], None],
    group: str,
    quotas: dict[str, str],
    percent: float,
) -> None:
    bound(set(range(8)))
    machine = Machine(tmp_path, monkeypatch, 8, group, quotas)
    for _ in range(2):
        machine.passes(0.5, *[0.2] * 8, group=1.9)
        assert machine.use.percent() == pytest.approx(percent)


@pytest.mark.parametrize(("quota", "percent"), [("200000", 95), ("-1", 20)])
def test_quotas_of_the_first_version_of_control_groups_count(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bound: Callable[[set[int]], None],
    quota: str,
    percent: float,
) -> None:
    bound(set(range(8)))
    group = tmp_path / "cgroup/cpu,cpuacct/docker/me"
    group.mkdir(parents=True)
    for name, value in (("cpu.cfs_quota_us", quota), ("cpu.cfs_period_us", "100000"), ("cpuacct.usage", "0")):
        (group / name).write_text(f"{value}\n")
    machine = Machine(tmp_path, monkeypatch, 8)
    lines = "9:name=systemd:/\n5:cpuset:/docker/me\n4:cpu,cpuacct:/docker/me\n0::/\n"
    (machine.proc / "self/cgroup").write_text(lines)
    use = CoreUse(machine.clock, machine.proc, machine.groups)
    machine.passes(0.5, *[0.2] * 8)
    (group / "cpuacct.usage").write_text(f"{950_000_000}\n")
    assert use.percent() == pytest.approx(percent)


def test_where_the_system_does_not_tell_nothing_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert CoreUse(ManualClock(), tmp_path, tmp_path).percent() == 0


def test_this_machine_tells() -> None:
    use = CoreUse()
    found: list[float] = []

    def told() -> bool:
        sum(range(100_000))
        found.append(use.percent())
        return found[-1] > 0

    until(told)
    assert 0 < found[-1] <= 110, "a group may have used a little of its next period"
    assert processor.core_count() == len(processor.cores()) >= 1
