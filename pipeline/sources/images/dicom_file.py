"""A DICOM file opened as far as its pixels: what it says of them, and where they lie (PS3.3 C.7.6.3, PS3.5 A.4)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from clesr.engines.common.errors import WHY, SourceError, on_error, told_as
from clesr.engines.common.limits import FREE_BYTES, MOST_RATIO
from clesr.engines.common.parsing import one_line

PIXELS = {0x7FE00010: "", 0x7FE00008: "f4", 0x7FE00009: "f8"}  # by tag: the kind of floats, if they are
_MAGIC, _MAGIC_AT = b"DICM", 128
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_LONG_VR = (b"OB", b"OW", b"OF", b"OD", b"UN", b"OL", b"OV")
# What a coded frame begins with: JPEG and JPEG-LS, JPEG 2000 (a codestream, a file), JPEG XL (likewise).
_BEGINS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ", b"\xff\x0a", b"\0\0\0\x0cJXL ")
_UNDEFINED = 0xFFFFFFFF


def in_series(files: Sequence[Path]) -> list[Path]:
    """``files``, of which those that are DICOM files follow the number of their instance, series by series: their
    names are often identifiers. A series stands where its first file was."""
    series: dict[str, int] = {}
    keys = {}
    for place, file in enumerate(files):
        uid, number = _place(file)
        keys[file] = (series.setdefault(uid or str(file), place), number, place)
    return sorted(files, key=keys.__getitem__)


def _place(file: Path) -> tuple[str, int]:
    """Series and number of the instance ``file``; nothing and 0 where it does not say."""
    try:
        with _Capped(file, file.open("rb")) as opened:
            header = dcmread(
                opened, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "InstanceNumber"]
            )
            return str(header.get("SeriesInstanceUID", "")), int(header.get("InstanceNumber") or 0)
    except Exception:  # noqa: BLE001 - whatever pydicom meets in a damaged file: opening it will say why
        return "", 0


class DicomFile:
    """``dataset`` is what stands in front of the pixels, ``syntax`` how they are stored, ``floats`` the kind of their
    numbers where they are floats. Raises SourceError."""

    def __init__(self, path: Path) -> None:
        with told_as(SourceError, f"{path}: cannot be opened ({WHY}); check the path"):
            file: BinaryIO = path.open("rb")
        with on_error(file.close):
            if file.read(_MAGIC_AT + 4)[_MAGIC_AT:] != _MAGIC:
                raise SourceError(f"{path} is no DICOM file: it has no DICM at byte {_MAGIC_AT}")
            file.seek(0)
            self._open(path, file)

    def _open(self, path: Path, file: BinaryIO) -> None:
        self.file: Any = _Capped(path, file)
        try:
            self.file = _inflated(self.file, path)
            self.dataset: Dataset = dcmread(self.file, stop_before_pixels=True)
            self.syntax = UID(self.dataset.file_meta.TransferSyntaxUID)
            self.start, self.length, self.floats = self._find_pixels()
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"{path} is damaged or has no image in it ({one_line(error)})") from error

    def _find_pixels(self) -> tuple[int, int, str]:
        """Where the pixels begin, how many bytes they are (what is left where that is not stated), and of what kind."""
        order = "<" if self.syntax.is_little_endian else ">"
        group, element = struct.unpack(f"{order}HH", self.file.read(4))
        tag = group << 16 | element
        if tag not in PIXELS:
            raise ValueError("no pixel data")
        if not self.syntax.is_implicit_VR and self.file.read(2) in _LONG_VR:
            self.file.read(2)
        (length,) = struct.unpack(f"{order}I", self.file.read(4))
        start = self.file.tell()
        left = self.file.seek(0, io.SEEK_END) - start
        return start, left if length == _UNDEFINED else min(length, left), PIXELS[tag]

    def read(self, start: int, count: int) -> bytes:
        self.file.seek(start)
        return bytes(self.file.read(count))

    def fragments(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Of compressed pixels: the offsets of frames that are stated, and begin and length of each fragment."""
        offsets: list[int] = []
        found: list[tuple[int, int]] = []
        at, end = self.start, self.start + self.length
        first = True
        while at + 8 <= end:
            group, element, length = struct.unpack("<HHI", self.read(at, 8))
            if group << 16 | element != _ITEM or at + 8 + length > end:
                break
            if first:
                table = self.read(at + 8, length - length % 4)
                offsets, first = list(struct.unpack(f"<{len(table) // 4}I", table)), False
            else:
                found.append((at + 8, length))
            at += 8 + length
        return offsets, found

    def frames(self, stated: int) -> list[list[tuple[int, int]]]:
        """Of compressed pixels: the fragments of each frame that is there (PS3.5, A.4), where ``stated`` are to be;
        found by how frames begin where neither the table of offsets nor the number of fragments tells."""
        offsets, fragments = self.fragments()
        if len(fragments) == stated or self.syntax == RLELossless:
            return [[fragment] for fragment in fragments]
        if len(offsets) > 1 and len(fragments) > len(offsets):
            base, places = fragments[0][0] - 8, set(offsets)
            begins = [start - 8 - base in places for start, _ in fragments]
        else:
            begins = [self.read(start, 12).startswith(_BEGINS) for start, _ in fragments]
            if not any(begins) and stated > 1:  # damaged, or of another kind
                return [[fragment] for fragment in fragments]
        return _grouped(fragments, begins)

    def close(self) -> None:
        self.file.close()


def _grouped(fragments: Sequence[tuple[int, int]], begins: Sequence[bool]) -> list[list[tuple[int, int]]]:
    made: list[list[tuple[int, int]]] = []
    for fragment, begin in zip(fragments, begins, strict=True):
        if begin or not made:
            made.append([])
        made[-1].append(fragment)
    return made


class _Capped(io.RawIOBase):
    """A file of which no more is asked than it has: Python takes memory for as much as is asked."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._file, self._size = file, path.stat().st_size

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _inflated(file: Any, path: Path) -> Any:
    """``file``, or one in memory whose data set is unpacked where the whole of it is deflated."""
    begin = file.read(_MAGIC_AT + 16)
    (length,) = struct.unpack_from("<I", begin, _MAGIC_AT + 12)  # of the file meta information behind it
    head = begin + file.read(length)
    uid = DeflatedExplicitVRLittleEndian.encode()
    if uid not in head:
        file.seek(0)
        return file
    data = file.read()
    most = FREE_BYTES + MOST_RATIO * len(data)
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacked = unpacker.decompress(data, most)
    if unpacker.unconsumed_tail:
        raise SourceError(
            f"{path} unpacks to more than {most >> 20} MB, more than its {len(data)} bytes can hold"
        )
    file.close()
    plain = ExplicitVRLittleEndian.encode()
    return io.BytesIO(head.replace(uid, plain.ljust(len(uid), b"\0")) + unpacked)
