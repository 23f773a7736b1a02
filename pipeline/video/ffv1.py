"""Damage in FFV1 packets, found by the checksum that ends each slice.

FFmpeg's decoder patches a slice whose checksum is wrong with the image before it and says so only in
its log. A recording that is to be lossless must not pass such a frame on as measured.
"""

from __future__ import annotations

import zlib

# FFV1 (RFC 9043, 4.9): a slice ends with its size (3 bytes), a status (1) and a CRC-32 (4) whose bits run
# from the top of each byte, as in MPEG. zlib has the same polynomial with bits from the bottom.
_TRAILER = 8
_ONES = 0xFFFFFFFF
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class SliceCheck:
    """Tells damaged packets of one FFV1 stream from good ones.

    A stream without checksums (FFV1 before version 3, ``slicecrc=0``) is not judged: what is checked begins
    with the first packet whose checksums hold. Frames that are predicted from a damaged one are damaged too.
    """

    def __init__(self) -> None:
        self._protected = False
        self._broken = False

    def problem(self, packet: bytes, *, key: bool) -> str | None:
        """What is wrong with ``packet`` (a key frame or not), in one line, or None."""
        if intact(packet):
            self._protected = True
            self._broken = self._broken and not key
        elif self._protected:
            self._broken = True
            return "its FFV1 checksum does not match its data"
        return "it builds on a damaged FFV1 frame" if self._broken else None


def intact(packet: bytes) -> bool:
    """Whether the slices fill ``packet`` exactly and the checksum of each holds."""
    mirrored = packet.translate(_MIRROR)
    end = len(packet)
    while end >= _TRAILER:
        start = end - _TRAILER - int.from_bytes(packet[end - _TRAILER : end - _TRAILER + 3], "big")
        if start < 0 or zlib.crc32(memoryview(mirrored)[start:end], _ONES) != _ONES:
            return False
        end = start
    return end == 0 and len(packet) > 0
