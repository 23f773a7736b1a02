from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sink import LiveSink
from clesr.pipeline.sinks.registry import open_sink


def test_null_takes_all_and_counts(make_result: Callable[..., Result]) -> None:
    sink = open_sink("null")
    for number in range(7):
        sink.write(make_result(np.zeros((4, 4), np.uint8), number))
    assert sink.policy is Policy.BLOCK
    assert not isinstance(sink, LiveSink)
    assert sink.close() == sink.close() == "null: 7 results taken, nothing kept"
