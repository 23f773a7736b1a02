"""Waiting for something to read."""

from __future__ import annotations

import fcntl
import resource
import socket

import pytest

from clesr.engines.common.waiting import readable


@pytest.mark.parametrize("lowest", [0, 1500])
def test_what_can_be_read_is_told_whatever_the_number_of_the_handle(lowest: int) -> None:
    """``select.select`` raises ValueError from handle 1024 on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2000) if hard > 0 else 2000, hard))
    ours, theirs = socket.socketpair()
    try:
        high = fcntl.fcntl(ours, fcntl.F_DUPFD, lowest)
        with socket.socket(fileno=high) as handle:
            assert not readable(handle, 0)
            assert not readable(handle, 0.01)
            theirs.send(b"1")
            assert readable(handle, 10)
            assert handle.recv(1) == b"1"
            theirs.close()
            assert readable(handle, 10), "its end too"
    finally:
        ours.close()
        theirs.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
