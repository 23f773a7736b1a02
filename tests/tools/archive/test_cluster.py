"""The same work on Ray: same bytes, whatever happens to the workers. Ray starts on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from archive_support import Start, results, wait_until
from heard import hear
from recordings import drifting, write_video

from clesr.engines.common.errors import ClesrError, MissingDependencyError
from clesr.tools.archive import cluster
from clesr.tools.archive.messages import Hello
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.worker import versions, work_folder

SETTINGS = Settings(scale=2, model="nearest", model_sha256="")
COMMAND = ("--scale", 2, "--model", "fast", "--engine", "torch", "--piece", 15)
MARK = "CLESR_TEST_MARK"
LISTENS = "0A"  # the state in /proc/net/tcp
LOOPBACKS = {
    "0100007F",
    "0" * 16 + "FFFF00000100007F",
    "0" * 24 + "01000000",
}  # 127.0.0.1, the same in IPv6, ::1


def processes(mark: str) -> dict[int, str]:
    """Those of the run that was started with ``mark`` in its environment, by number, with their names."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            name, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"{MARK}={mark}\0".encode() in environment:
            found[int(folder.name)] = name.replace(b"\0", b" ").decode()
    return found


def workers(mark: str) -> list[int]:
    """Processes of Ray actors of that run."""
    return [number for number, name in processes(mark).items() if name.startswith("ray::Worker")]


def listening(numbers: Iterable[int]) -> set[str]:
    """Addresses at which these processes take TCP connections, as the kernel writes them."""
    sockets = set()
    for number in numbers:
        with suppress(OSError):
            sockets |= {os.readlink(link) for link in Path(f"/proc/{number}/fd").iterdir()}
    lines = [
        line.split() for kind in ("tcp", "tcp6") for line in Path("/proc/net", kind).read_text().splitlines()
    ]
    return {
        line[1].partition(":")[0] for line in lines if line[3] == LISTENS and f"socket:[{line[9]}]" in sockets
    }


def pieces_in(out: Path) -> int:
    return len(list(work_folder(out).rglob("0*.mkv")))


@pytest.fixture
def long_video(archive: Path) -> Path:
    """The archive with a video of 20 pieces in it: work enough that something can happen meanwhile."""
    write_video(archive / "a" / "0.mkv", drifting(300, (96, 128)), options={"g": "1"})
    return archive


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_make_the_same_bytes_though_one_is_killed(
    start: Start, long_video: Path, tmp_path: Path
) -> None:
    plain, shared = tmp_path / "plain", tmp_path / "shared"
    process = start("upscale", long_video, "--out", plain, *COMMAND)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    mark = str(os.getpid())
    process = start(
        "upscale",
        long_video,
        "--out",
        shared,
        *COMMAND,
        "--cluster",
        "local",
        "--workers",
        2,
        environment={MARK: mark},
    )
    wait_until(lambda: pieces_in(shared) > 2, process)
    at_work = workers(mark)
    assert len(at_work) == 2
    os.kill(at_work[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "a worker was lost, another takes its place" in err
    assert "8 files up-scaled, 0 found finished, 0 broken" in err
    assert results(shared) == results(plain)
    lines = [json.loads(line) for line in (shared / "archive.jsonl").read_text().splitlines()]
    assert set(Counter(line["input"] for line in lines if "run" not in line).values()) == {1}
    assert out == ""
    assert not [line for line in err.splitlines() if "ray" in line.lower()], err  # none of Ray's own
    assert not workers(mark)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_ends_the_cluster_and_the_plain_run_goes_on(
    start: Start, long_video: Path, tmp_path: Path
) -> None:
    out, mark = tmp_path / "out", f"{os.getpid()}c"
    process = start(
        "upscale",
        long_video,
        "--out",
        out,
        *COMMAND,
        "--cluster",
        "local",
        "--workers",
        1,
        environment={MARK: mark},
    )
    wait_until(lambda: pieces_in(out) > 1, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert "stopped: the same command goes on from here" in err
    assert "Traceback" not in err
    assert not workers(mark)
    kept = {path: path.stat().st_mtime_ns for path in work_folder(out).rglob("0*.mkv")}
    assert kept
    process = start("upscale", long_video, "--out", out, *COMMAND)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert len(results(out)) == 8


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_local_cluster_listens_to_this_machine_alone(
    start: Start, long_video: Path, tmp_path: Path
) -> None:
    out, mark = tmp_path / "out", f"{os.getpid()}l"
    words = ("upscale", long_video, "--out", out, *COMMAND, "--cluster", "local", "--workers", 1)
    process = start(*words, environment={MARK: mark})
    wait_until(lambda: pieces_in(out) > 1, process)
    assert len(workers(mark)) == 1
    seen = listening(processes(mark))
    assert seen
    assert seen <= LOOPBACKS
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert "this machine's own cluster listens on 127.0.0.1 alone: no other machine can reach it" in err


def test_ray_that_would_listen_to_others_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended: list[bool] = []
    ray = ModuleType("ray")
    ray.init = lambda **_options: None  # type: ignore[attr-defined]
    ray.util = SimpleNamespace(get_node_ip_address=lambda: "192.0.2.7")  # type: ignore[attr-defined]
    ray.shutdown = lambda: ended.append(True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(ClesrError, match="would listen to other machines"):
        cluster.RayExecutor(SETTINGS, tmp_path, address="local")
    assert ended


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:9", "--cluster 127.0.0.1:9 does not answer"), ("here", "--cluster here is no address")],
)
def test_a_cluster_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    address: str,
    words: str,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with pytest.raises(ClesrError, match=f"{words}.*; give local, auto, or HOST:PORT"):
        cluster.RayExecutor(SETTINGS, tmp_path, address=address)
    print("standard output is back")
    assert "is back" in capsys.readouterr().out


def test_without_ray_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'clesr\[cluster\]'"):
        cluster.RayExecutor(SETTINGS, tmp_path, address="local")


class FakeRay:
    """Answers what it is told; ``hello`` makes the answer of the n-th worker."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            cause = ClesrError("no engine can run")

    def __init__(self, hello: Callable[[int], Hello], having: dict[str, float]) -> None:
        self.hello, self.having = hello, having
        self.hired: list[dict[str, object]] = []

    def cluster_resources(self) -> dict[str, float]:
        return self.having

    def remote(self, _kind: type) -> FakeRay:
        return self

    def options(self, **resources: object) -> Callable[[], None]:
        number = len(self.hired)
        self.hired.append(resources)

        class Method:
            def remote(self, *_arguments: object) -> int:
                return number

        class Actor:
            hello = Method()

        class Maker:
            def remote(self, *_arguments: object) -> Actor:
                return Actor()

        return Maker()  # type: ignore[return-value]

    def wait(self, references: list[int], **_options: object) -> tuple[list[int], list[int]]:
        return references, []

    def get(self, reference: int) -> Hello:
        return self.hello(reference)

    def kill(self, _actor: object) -> None:
        pass

    def shutdown(self) -> None:
        pass


ExecutorOn = Callable[..., tuple[cluster.RayExecutor, list[str]]]


@pytest.fixture
def executor_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ExecutorOn]:
    """An executor on a fake Ray, and what it says; closed at the end."""
    executors: list[cluster.RayExecutor] = []

    def begin(ray: FakeRay, **more: object) -> tuple[cluster.RayExecutor, list[str]]:
        work_folder(tmp_path).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(cluster, "_connect", lambda _address: ray)
        said = hear()
        executors.append(cluster.RayExecutor(SETTINGS, tmp_path, address="x:1", **more))  # type: ignore[arg-type]
        return executors[-1], said

    yield begin
    for executor in executors:
        executor.close()


def hello(**changes: object) -> Hello:
    values: dict[str, object] = {
        "host": "node", "process": 7, "versions": versions(), "sees": True, "model_sha256": "", "engine": "fake",
    }  # fmt: skip
    return Hello(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sees": False}, "the worker on node does not see .*: all machines need the archive"),
        ({"versions": ("clesr 0.0",)}, "the worker on node has clesr 0.0, this machine clesr"),
        ({"model_sha256": "other"}, "the worker on node has other weights under the name nearest"),
    ],
)
def test_a_worker_that_does_not_belong_is_one_line(
    executor_on: ExecutorOn, changes: dict[str, object], words: str
) -> None:
    executor, _ = executor_on(FakeRay(lambda _n: hello(**changes), {"CPU": 2.0}))
    with pytest.raises(ClesrError, match=words):
        executor.wait()


@pytest.mark.parametrize(
    ("having", "more", "count", "resources"),
    [
        ({"CPU": 2.0}, {}, 2, {"num_cpus": 1, "num_gpus": 0}),
        ({"CPU": 64.0, "GPU": 4.0}, {}, 4, {"num_cpus": 1, "num_gpus": 1.0}),
        ({"CPU": 64.0, "GPU": 4.0}, {"gpus": 0.5}, 8, {"num_cpus": 1, "num_gpus": 0.5}),
        ({"CPU": 64.0, "GPU": 4.0}, {"workers": 3}, 3, {"num_cpus": 1, "num_gpus": 1.0}),
    ],
)
def test_one_worker_an_engine_as_many_as_fit(
    executor_on: ExecutorOn,
    having: dict[str, float],
    more: dict[str, object],
    count: int,
    resources: dict[str, object],
) -> None:
    ray = FakeRay(lambda _n: hello(), having)
    executor, said = executor_on(ray, **more)
    assert executor.free() == 0  # nobody has said hello
    assert executor.wait() == []
    assert len(ray.hired) == len(said) == count
    assert all(resources.items() <= hired.items() for hired in ray.hired)
    assert executor.free() == count * cluster.AHEAD


def test_workers_that_die_in_the_door_are_replaced_but_not_for_ever(executor_on: ExecutorOn) -> None:
    def dead(_n: int) -> Hello:
        raise FakeRay.exceptions.RayError("node died")

    executor, said = executor_on(FakeRay(dead, {"CPU": 2.0}))
    for _ in range(cluster.LOSSES):
        executor.wait()
    with pytest.raises(ClesrError, match="workers in a row were lost, the last: node died"):
        executor.wait()
    assert len(said) == cluster.LOSSES * 2


def test_a_worker_whose_engine_cannot_start_ends_the_run(executor_on: ExecutorOn) -> None:
    def fails(_n: int) -> Hello:
        raise FakeRay.exceptions.RayTaskError

    executor, _ = executor_on(FakeRay(fails, {"CPU": 2.0}))
    with pytest.raises(ClesrError, match="a worker cannot start: no engine can run"):
        executor.wait()
