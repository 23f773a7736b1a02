"""Writing files: whole or not at all, and never over what has to stay.

A file is made under an unpredictable name beside its place and gets its own when it is on the disk. What may be
replaced is one rule, ``WriteRule``: never an input, part of a session or what is no regular file; another file only
where the user says so.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from clesr.engines.common.errors import SinkError, UsageError

MANIFEST, FRAMES, NOTES, RAW, SR = SESSION_FILES = (
    "session.json", "frames.jsonl", "notes.jsonl", "raw.mkv", "sr.mkv"
)  # fmt: skip
SESSION = MANIFEST, FRAMES  # a folder that has one of these is a session
LONGEST_READ = 64 << 20  # bytes of a settings or result file that is read at once
LONGEST_NAME = 255  # bytes of a name, on the file systems in use
MOST_NUMBERS = 1000  # names that are tried before one is given up
_DOUBLE = (".ome.tif", ".ome.tiff")
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_settings: dict[Path, None] = {}  # files of settings and keys, which are inputs of every command


def keep(path: str | Path) -> None:
    """From now on no rule allows to replace the file of settings or keys ``path``."""
    _settings[Path(path).absolute()] = None


@dataclass(frozen=True, slots=True)
class WriteRule:
    """What may be replaced: an existing file only with ``overwrite``, and never one of ``inputs``: files, and folders
    with all that is in them, nor what ``keep`` named. Links and other names of the same file do not matter."""

    overwrite: bool = False
    inputs: tuple[Path, ...] = ()

    @staticmethod
    def of(overwrite: bool, *inputs: str | Path | None) -> WriteRule:
        """A rule for a command with ``inputs``: addresses, of which those that are files or folders count."""
        names = [str(name) for name in inputs if name is not None]
        names = [unquote(urlsplit(name).path) if name[:5].lower() == "file:" else name for name in names]
        return WriteRule(overwrite, tuple(Path(name) for name in names if os.path.exists(name)))

    def check(self, path: Path) -> None:
        """Raises UsageError where ``path`` is an input, SinkError where it may not be written for another reason."""
        state = look_at(path)
        session = _session_of(path)
        if state is None:
            if session is not None and path.name in SESSION_FILES:
                raise SinkError(f"{path} would be part of the session {session}; give another name")
            return
        if stat.S_ISDIR(state.st_mode):
            raise SinkError(f"{path} is a folder; give the name of a file in it")
        if not stat.S_ISREG(state.st_mode):
            raise SinkError(f"{path} is {kind_of(state)}, which is never replaced; give the name of a file")
        if self._is_input(path):
            raise UsageError(f"{path} is an input of this command and is never replaced; give another name")
        if session is not None:
            raise SinkError(
                f"{path} is part of the session {session} and is never replaced; give another name"
            )
        if not self.overwrite:
            raise SinkError(f"{path} exists; give another name, or --overwrite to replace it")

    def allows(self, path: Path) -> bool:
        """Whether ``check`` raises nothing."""
        try:
            self.check(path)
        except (SinkError, UsageError):
            return False
        return True

    def check_all(self, *paths: str | Path | None) -> None:
        """``check`` each of ``paths``, before work begins; they must be different files."""
        seen: set[str] = set()
        for path in paths:
            if path is None:
                continue
            self.check(Path(path))
            place = os.path.realpath(path)
            if place in seen:
                raise UsageError(f"{path} is named for two outputs; give each a name of its own")
            seen.add(place)

    def _is_input(self, path: Path) -> bool:
        taken = set(_places((*self.inputs, *_settings)))
        if not taken.isdisjoint(_places((path, *_folders_above(path)))):
            return True
        # What lies elsewhere, and in an input by a link; walked only where something would be replaced.
        files = (Path(at, n) for folder in self.inputs for at, _, names in os.walk(folder) for n in names)
        return self.overwrite and not set(_places((path,))).isdisjoint(_places(files))


NEW = WriteRule()
OWN = WriteRule(overwrite=True)  # for files that clesr alone writes, such as those of a cache


class NewFile:
    """An empty file at ``path``, a hidden name beside ``final`` that nobody can foresee; it is for the caller to write,
    and to ``publish`` or ``discard``. Raises what ``rule.check`` raises, and OSError where the folder takes no file."""

    def __init__(self, final: Path, rule: WriteRule = NEW) -> None:
        rule.check(final)
        self.final, self._rule = final, rule
        self.path = final.with_name(hidden_name(final.name))
        os.close(create_new(self.path))

    def publish(self, final: Path | None = None, *, wait: bool = True) -> None:
        """Give it its name, or another one; on the disk when this returns, unless not to ``wait``."""
        self.final = final or self.final
        if wait:
            sync(self.path)
        self._rule.check(self.final)
        try:
            if self._rule.overwrite:
                os.replace(self.path, self.final)
            else:
                name_new(self.path, self.final)
        except FileExistsError:
            self._rule.check(self.final)  # made by somebody since: says what it is
            raise
        if wait:
            with contextlib.suppress(OSError):  # not every file system syncs folders
                sync(self.final.parent)

    def discard(self) -> None:
        """Delete it, unless it has its name."""
        with contextlib.suppress(OSError):  # on a read-only disk even the removal of what is not there
            self.path.unlink(missing_ok=True)


class WholeFile(FileIO):
    """An unbuffered file that takes all that it is given, however little the system takes at once."""

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return len(data)


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """What the system refuses in the block becomes a SinkError: ``path`` cannot be written."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def new_file(final: Path, rule: WriteRule = NEW, *, wait: bool = True) -> Iterator[Path]:
    """The temporary path of what gets its name at the end of the block, and is deleted where that raises.

    Raises SinkError where the disk or folder is the reason, and what ``WriteRule.check`` raises.
    """
    with writing(final):
        made = NewFile(final, rule)
        try:
            yield made.path
            made.publish(wait=wait)
        finally:
            made.discard()


def write_file(
    path: Path, data: bytes | memoryview | str, rule: WriteRule = NEW, *, wait: bool = True
) -> None:
    """``data`` (text as UTF-8) as the file ``path``. Raises as ``new_file``."""
    with new_file(path, rule, wait=wait) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_private(contents: Mapping[Path, bytes]) -> None:
    """New files that their owner alone may read and write. Raises as ``new_file``; where one of them exists, none is
    made."""
    with contextlib.ExitStack() as opened:
        for path, data in contents.items():
            temporary = opened.enter_context(new_file(path))
            temporary.chmod(0o600)
            temporary.write_bytes(data)


def write_json(path: Path, value: Any, rule: WriteRule = NEW) -> None:
    """``value`` as indented JSON in ``path``. Raises as ``new_file``."""
    write_file(path, json.dumps(value, indent=2) + "\n", rule)


def make_parents(path: Path) -> None:
    """The folders above ``path``. Raises SinkError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def cannot_write(path: Path | str, error: OSError) -> SinkError:
    """``error`` of writing ``path``, for the user."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "free some space, or choose another disk" if full else "choose another place"
    return SinkError(f"{path} cannot be written: {error.strerror or error}; {advice}")


def open_in_folder(path: str | Path, folder: int, *, append: bool = False) -> int:
    """A descriptor of the regular file ``path`` in ``folder``, a descriptor: for reading; with ``append`` also for
    writing, and made where it is missing. Links are not followed.

    Raises OSError, also where it is no regular file: what is a pipe or a device is not waited for.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT if append else os.O_RDONLY
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise OSError(errno.EINVAL, "it is a link, folder or socket and no file", str(path)) from None
        raise
    state = os.fstat(descriptor)
    if stat.S_ISREG(state.st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"it is {kind_of(state)} and no file", str(path))


def look_at(path: Path) -> os.stat_result | None:
    """What is at ``path``, links not followed; None where nothing is. Raises SinkError where nobody can tell."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise cannot_write(path, error) from error
    except ValueError as error:
        raise SinkError(f"{str(path)!r} is no name for a file: {error}; give another") from error


def kind_of(state: os.stat_result) -> str:
    """What is not a file, in words."""
    return _KINDS.get(stat.S_IFMT(state.st_mode), "no file")


def split_suffix(path: Path) -> tuple[str, str]:
    """The name without its suffix, and the suffix; ``.ome.tif`` is one."""
    double = next((suffix for suffix in _DOUBLE if path.name.lower().endswith(suffix)), None)
    suffix = path.name[-len(double) :] if double else path.suffix
    return path.name[: len(path.name) - len(suffix)], suffix


def numbered(path: Path, *words: object) -> Path:
    """``NAME.WORD.SUFFIX`` for ``NAME.SUFFIX``."""
    stem, suffix = split_suffix(path)
    added = ".".join(["", *map(str, words)]) + suffix
    return path.with_name(cut_name(stem, LONGEST_NAME - len(os.fsencode(added))) + added)


def cut_name(name: str, most: int) -> str:
    """``name``, cut to the whole characters that fit into ``most`` bytes."""
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def partial_name(path: Path, rule: WriteRule) -> Path:
    """What ``path`` is called where it is not whole: ``NAME.partial.SUFFIX``, or ``NAME.partial.2.SUFFIX`` and so on
    where ``rule`` forbids that."""
    name = numbered(path, "partial")
    for number in range(2, MOST_NUMBERS):
        if rule.allows(name):
            break
        name = numbered(path, "partial", number)
    return name


def contains(outer: Path, inner: Path) -> bool:
    """Whether ``inner`` is ``outer`` or lies in it, links resolved."""
    return Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(outer))


def sync(path: Path) -> None:
    """Wait until the file or folder ``path`` is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def token() -> str:
    """A part of a name that nobody can foresee."""
    return secrets.token_hex(8)


def hidden_name(name: str) -> str:
    """An unpredictable name, with the same suffix, for what is to become ``name``."""
    stem, suffix = split_suffix(Path(name))
    return f".{stem[:40]}.{token()}.part{suffix}"


def create_new(path: str | Path, folder: int | None = None) -> int:
    """A descriptor of the new file ``path`` (in ``folder``, a descriptor), to write and read. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o666, dir_fd=folder)


def name_new(old: str | Path, new: str | Path, here: int | None = None, there: int | None = None) -> None:
    """The file ``old`` (in the folder ``here``, a descriptor) becomes ``new`` (in ``there``), where nothing may be.

    Raises FileExistsError where something is, in one step with the renaming, and OSError.
    """
    try:
        os.link(old, new, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(create_new(new, there))  # a file system without hard links: the name is taken first
        os.replace(old, new, src_dir_fd=here, dst_dir_fd=there)
    else:
        os.unlink(old, dir_fd=here)


def _folders_above(path: Path) -> list[Path]:
    place = Path(os.path.realpath(path.parent))
    return [place, *place.parents]


def _places(paths: Iterable[Path]) -> Iterator[tuple[int, int]]:
    """Device and inode of each of ``paths`` that is there, links followed: what all names of a file share."""
    for path in paths:
        with contextlib.suppress(OSError):
            state = path.stat()
            yield state.st_dev, state.st_ino


def _session_of(path: Path) -> Path | None:
    """The session that ``path`` lies in."""
    for folder in _folders_above(path):
        if any(os.path.lexists(folder / name) for name in SESSION):
            return folder
    return None
