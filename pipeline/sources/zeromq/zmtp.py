"""What a ZeroMQ peer sends, followed frame by frame as it comes: ZMTP 2.0 to 3.1 (rfc.zeromq.org/spec/23).

ZeroMQ keeps the parts of a message until its last has come, however many they are, and gives out nothing before. So
whoever wants to bound memory has to look at the bytes before ZeroMQ gets them.
"""

from __future__ import annotations

from clesr.pipeline.sources.zeromq.message import Refused

PART_COST = 80  # bytes that ZeroMQ takes for a part beside its content
MOST_PARTS = 64  # of a message; more are refused at once
MOST_COMMAND = 65_536  # bytes of a command: handshake, heartbeat, subscription
_MORE, _LONG, _COMMAND = 1, 2, 4
_SIGNATURE = 11  # bytes of a greeting that say which version follows
_GREETING_2, _GREETING_3 = 12, 64  # bytes of the greetings of ZMTP 2.0, whose revision is 1, and of 3.x


class Meter:
    """Follows the bytes of one peer, none of whose parts may have more than ``most`` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._head = bytearray()  # what has come of a greeting or of a frame's header
        self.greeted = False  # whether what comes is ZeroMQ's protocol
        self._left = 0  # bytes of a frame's body that have not come
        self._counted = False  # whether they are content, and no command
        self._parts = 0

    def feed(self, data: memoryview) -> int:
        """How many bytes ZeroMQ will keep for ``data``. Raises Refused where it must not get them."""
        cost, at, end = 0, 0, len(data)
        while at < end:
            if self._left:
                taken = min(self._left, end - at)
                self._left -= taken
                cost += taken if self._counted else 0
            else:
                taken = min(self._wanted() - len(self._head), end - at)
                self._head += data[at : at + taken]
                if not self.greeted:
                    self._greet()
                elif len(self._head) == self._wanted():
                    cost += self._begin()
            at += taken
        return cost

    def _wanted(self) -> int:
        """Bytes of the greeting or header that has begun."""
        if self.greeted:
            return 9 if self._head and self._head[0] & _LONG else 2
        if len(self._head) < _SIGNATURE:
            return _SIGNATURE
        return _GREETING_2 if self._head[_SIGNATURE - 1] == 1 else _GREETING_3

    def _greet(self) -> None:
        if len(self._head) < _SIGNATURE:
            return
        if self._head[0] != 0xFF or not self._head[9] & 1 or not self._head[_SIGNATURE - 1]:
            raise Refused("no ZeroMQ peer, or one from before version 3")
        if len(self._head) == self._wanted():
            self.greeted = True
            self._head.clear()

    def _begin(self) -> int:
        """A frame's header is whole."""
        flags = self._head[0]
        self._left = int.from_bytes(self._head[1:], "big")
        self._head.clear()
        self._counted = not flags & _COMMAND
        if not self._counted:
            if self._left > MOST_COMMAND:
                raise Refused(f"a command of {self._left} bytes, more than {MOST_COMMAND}")
            return 0
        if self._left > self._most:
            raise Refused(f"a part of more than {self._most} bytes")
        self._parts = self._parts + 1 if flags & _MORE else 0
        if self._parts >= MOST_PARTS:
            raise Refused(f"a message of more than {MOST_PARTS} parts")
        return PART_COST
