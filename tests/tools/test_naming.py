from __future__ import annotations

from pathlib import Path

import pytest

from clesr.engines.common.errors import UsageError
from clesr.tools.common.naming import name_streams, spread, spread_several
from clesr.tools.common.options import Repeated


def test_streams_are_named_by_the_user_or_after_their_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.mkv").touch()
    given = [
        "left=/dev/video0", "/dev/video2?format=GREY", "demo:?fps=12", "demo:?fps=25&size=64", "run 1.mkv",
        "zmq+tcp://host:5555", "rtsp://user:secret@camera/live", "a=b.mkv", "x-1=demo:?seed=3",
    ]  # fmt: skip
    assert list(name_streams(given).items()) == [
        ("left", "/dev/video0"),
        ("video2", "/dev/video2?format=GREY"),
        ("demo", "demo:?fps=12"),
        ("demo-2", "demo:?fps=25&size=64"),
        ("run-1", "run 1.mkv"),
        ("host-5555", "zmq+tcp://host:5555"),
        ("camera-live", "rtsp://user:secret@camera/live"),
        ("a-b", "a=b.mkv"),
        ("x-1", "demo:?seed=3"),
    ]
    with pytest.raises(UsageError, match="two streams named left"):
        name_streams(["left=demo:", "left=/dev/video0"])


def test_an_options_values_go_to_the_streams() -> None:
    assert spread("--output", [], ["a", "b"]) == [None, None]
    assert spread("--output", ["x.mkv"], ["a"]) == ["x.mkv"]
    assert spread("--output", ["{stream}.mkv"], ["a"]) == ["a.mkv"]
    assert spread("--output", ["out/{stream}.mkv"], ["a", "b"]) == ["out/a.mkv", "out/b.mkv"]
    assert spread("--output", ["x.mkv", "y.mkv"], ["a", "b"]) == ["x.mkv", "y.mkv"]


@pytest.mark.parametrize(
    ("values", "streams", "words"),
    [
        (["x.mkv"], ["a", "b"], "--output is given once for 2 streams"),
        (["x.mkv", "y.mkv"], ["a"], "--output is given 2 times for 1 stream;"),
        (["{stream}1.mkv", "{stream}2.mkv"], ["a", "b", "c"], "2 times for 3 streams"),
        (["x.mkv", "x.mkv"], ["a", "b"], "cannot share it"),
    ],
)
def test_counts_that_do_not_fit_are_refused(values: list[str], streams: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        spread("--output", values, streams)


def test_an_option_that_is_repeated_goes_to_one_stream_or_to_those_that_it_names() -> None:
    assert spread_several("--send", [], ["a", "b"]) == [(), ()]
    assert spread_several("--send", ["igtl://*:1", "zmq+tcp://*:2"], ["a"]) == [
        ("igtl://*:1", "zmq+tcp://*:2")
    ]
    assert spread_several("--send", ["x", "y"], ["a", "b"]) == [("x",), ("y",)]
    given = ["{stream}.ipc", "b=igtl:?name=b", "x", "y", "b=z"]
    assert spread_several("--send", given, ["a", "b"]) == [
        ("a.ipc", "x"),
        ("b.ipc", "igtl:?name=b", "z", "y"),
    ]
    assert spread_several("--send", ["igtl://*:1?connect=0"], ["a"]) == [("igtl://*:1?connect=0",)]
    for values, streams, words in (
        (["x", "y", "z"], ["a", "b"], "3 times for 2 streams"),
        (["x", "a=y"], ["a", "b"], "given once for 2 streams"),
        (["x", "x"], ["a"], "two outputs cannot share it"),
        (["a=x", "b=x"], ["a", "b"], "two outputs cannot share it"),
    ):
        with pytest.raises(UsageError, match=words):
            spread_several("--send", values, streams)


def test_in_the_environment_values_stand_one_a_line() -> None:
    assert Repeated().split_envvar_value("left=/dev/video0\nmy file.mkv\n") == [
        "left=/dev/video0",
        "my file.mkv",
    ]
