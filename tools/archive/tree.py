"""The walk through an archive: what is to be up-scaled, and under which name."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clesr.engines.common.files import SESSION, kind_of
from clesr.pipeline.session.format import RAW
from clesr.pipeline.sources.images.animation import is_animation
from clesr.pipeline.sources.images.files import natural_key
from clesr.pipeline.sources.images.still import is_pnm_sequence
from clesr.pipeline.sources.registry import IMAGE_SUFFIXES, RECORDINGS, STILL_SUFFIXES, TIFF_SUFFIXES

KNOWN = frozenset((*RECORDINGS, *IMAGE_SUFFIXES))


@dataclass(frozen=True, slots=True)
class InputFile:
    """A recording of the archive. ``name`` is its path in the archive, ``path`` the file that is read (a session's
    raw video), ``target`` the path of its result in the output folder; ``size`` in bytes and ``mtime_ns`` are the
    file's. ``window`` (levels of black and white) and ``cores`` (a calibration's file and hash) are what a session
    states, as ``with_stated`` finds it. ``known`` is the hash of its content where its result exists with these
    settings; ``earlier`` the hash of the result of an earlier run, which may be replaced."""

    name: str
    path: Path
    target: str
    size: int
    mtime_ns: int
    window: tuple[float, float] | None = None
    cores: tuple[Path, str] | None = None
    known: str = ""
    earlier: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """Something in the archive that cannot even be looked at; ``reason`` is one line."""

    name: str
    reason: str


class ArchiveTree:
    """The recordings under ``root``, folder by folder in natural order, found as they are asked for.

    Memory holds the names of the folders on the way only. ``out`` and hidden names are passed over. A link to a folder
    inside ``root`` is passed over, because its content comes anyway; one to a folder outside is followed, once: so no
    loop of links is endless. ``left_out`` counts files of no known kind by suffix.
    """

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self._out = root, out
        self.left_out: Counter[str] = Counter()
        self._outside: set[tuple[int, int]] = set()

    def __iter__(self) -> Iterator[InputFile | UnreadableEntry]:
        self.left_out.clear()
        self._outside.clear()
        if is_session(self.root):
            yield _entry(self.root.resolve().name, self.root / RAW, self.root.resolve().name + ".mkv")
            return
        yield from self._folder(self.root, "")

    def _folder(self, folder: Path, name: str) -> Iterator[InputFile | UnreadableEntry]:
        try:
            paths = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=natural_key)
        except OSError as error:
            yield UnreadableEntry(name or str(folder), f"the folder cannot be read ({error.strerror})")
            return
        recordings: list[Path] = []
        folders: list[Path] = []
        for path in paths:
            if path.is_dir():
                (recordings if is_session(path) else folders).append(path)
            elif path.suffix.lower() in KNOWN:
                recordings.append(path)
            else:
                self.left_out[path.suffix.lower() or "no suffix"] += 1
        recordings = [path for path in recordings if not path.is_dir() or self._is_new(path)]
        targets = _targets(recordings)
        for path, target in zip(recordings, targets, strict=True):
            yield _entry(f"{name}{path.name}", path / RAW if path.is_dir() else path, f"{name}{target}")
        for path in folders:
            if self._is_new(path):
                yield from self._folder(path, f"{name}{path.name}/")

    def _is_new(self, folder: Path) -> bool:
        """Whether ``folder`` is to be gone into."""
        try:
            if self._out.exists() and folder.samefile(self._out):
                return False
            outside = not folder.resolve().is_relative_to(self.root.resolve())
            state = folder.stat()
        except OSError:
            return True  # opening it will say why
        if not outside:
            return not folder.is_symlink()
        found = (state.st_dev, state.st_ino)
        seen = found in self._outside
        self._outside.add(found)
        return not seen


def partial_target(target: str) -> str:
    """The name of the result that lacks frames which the input lost."""
    path = PurePosixPath(target)
    return str(path.with_name(f"{path.stem}.partial{path.suffix}"))


def is_session(folder: Path) -> bool:
    """Whether ``folder`` is what a recorded session leaves."""
    return (folder / RAW).is_file() and any((folder / name).is_file() for name in SESSION)


def _entry(name: str, path: Path, target: str) -> InputFile | UnreadableEntry:
    try:
        state = path.stat()
    except OSError as error:
        return UnreadableEntry(name, f"cannot be read ({error.strerror})")
    if not stat.S_ISREG(state.st_mode):
        return UnreadableEntry(name, f"cannot be read (it is {kind_of(state)} and no file)")
    return InputFile(name, path, target, state.st_size, state.st_mtime_ns)


def _targets(paths: list[Path]) -> list[str]:
    """The names of the results: each input's own with a new suffix; where two would be the same, after its suffix."""
    short = [path.name + ".mkv" if path.is_dir() else path.stem + result_suffix(path) for path in paths]
    count = Counter(short)
    long = [path.name + (".session.mkv" if path.is_dir() else result_suffix(path)) for path in paths]
    return [s if count[s] == 1 else n for s, n in zip(short, long, strict=True)]


def result_suffix(path: Path) -> str:
    """The suffix of what is made of ``path``: a stack becomes a stack, an image a PNG, and all else a video, which has
    times: animations and DICOM files too."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return ".tif"
    with suppress(OSError, ValueError):  # opening it will say why
        alone = suffix in STILL_SUFFIXES and not is_animation(path) and not is_pnm_sequence(path)
        return ".png" if alone else ".mkv"
    return ".png"


def kind(name: str) -> str:
    """The suffix by which recordings of one kind are known; that of a session is its raw video's."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if suffix in KNOWN else ".mkv"
