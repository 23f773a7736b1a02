"""The window on this machine's screen."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from clesr.pipeline.clock import SYSTEM, Clock
from clesr.pipeline.errors import SinkError
from clesr.pipeline.frame import Result
from clesr.pipeline.mailbox import Policy
from clesr.pipeline.sinks.hud import Canvas, draw
from clesr.pipeline.stats import Status

TITLE = "clesr"
QUIT_KEYS = (ord("q"), ord("Q"), 27)
OVERLAY_KEYS = (ord("f"), ord("F"))
REDRAW_NS = 100_000_000  # between two drawings while no frame comes
OF_SCREEN = 0.9  # of its width and height are used at most
NARROWEST = 480  # pixels, so that the display stays readable over a small image
FIRST_SHAPE = (480, 640)  # before the first image
UNKNOWN_SCREEN = (1280, 720)
ADVICE = "run with --display none, on a desktop, or over ssh -X"


class Keyboard:
    """The keys pressed in any window: OpenCV does not tell in which. Each window is told each key once."""

    def __init__(self) -> None:
        self._waiting: dict[object, list[int]] = {}

    def pressed(self, window: object) -> list[int]:
        """The keys since ``window`` asked last."""
        self._waiting.setdefault(window, [])
        key = cv2.pollKey()
        if key != -1:
            for keys in self._waiting.values():
                keys.append(key & 0xFF)
        keys, self._waiting[window] = self._waiting[window], []
        return keys

    def forget(self, window: object) -> None:
        self._waiting.pop(window, None)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window stands: the ``index``-th of ``count`` in a grid over the screen."""

    title: str = TITLE
    index: int = 0
    count: int = 1
    keyboard: Keyboard = field(default_factory=Keyboard)

    def part_of(self, screen: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, width and height of its cell, in pixels of a ``screen`` of (width, height)."""
        columns = math.ceil(math.sqrt(self.count))
        rows = math.ceil(self.count / columns)
        row, column = divmod(self.index, columns)
        width, height = screen[0] // columns, screen[1] // rows
        return column * width, row * height, width, height


class Window:
    """Shows the newest result under the head-up display; ``q``, Esc or closing the window stops the run, ``f`` switches
    the ``overlay`` of where the image disagrees with what was measured. ``actions`` are what other keys do.

    As large as the image, or as fits the screen, until the user resizes it. ``place`` is for one of several windows,
    which stand in a grid; ``q`` or Esc in any of them stops the streams of all, closing one only its own.
    ``refresh`` belongs on the main thread. Raises SinkError where there is no screen.
    """

    name = "window"
    policy = Policy.NEWEST

    def __init__(self, place: Place | None = None, *, overlay: bool = False, clock: Clock = SYSTEM) -> None:
        place = place or Place()
        self.overlay = overlay
        self._title, self._keyboard = place.title, place.keyboard
        self._left, self._top, *self._space = place.part_of(screen_size())
        self._tiled = place.count > 1
        self._clock = clock
        self._newest: Result | None = None
        self._fitted: tuple[int, ...] | None = None  # shape of the image that the window was last sized for
        self._open = self._fresh = False
        self._canvas: Canvas | None = None
        self._drawn_ns = clock.now_ns()
        self._drawn_shape = (0, 0)
        self.shown = 0
        self.actions: dict[str, Callable[[], None]] = {}

    def write(self, result: Result) -> None:
        self._newest, self._fresh = result, True

    def refresh(self, status: Status) -> bool:
        if not self._open:
            self._create()
        elif not self._is_visible():
            return False
        result, fresh = self._newest, self._fresh
        if result is not None and result.image.shape != self._fitted:
            self._fitted = result.image.shape
            self._resize(result.image.shape)
        now, shape = self._clock.now_ns(), self._shape()
        if fresh or shape != self._drawn_shape or now - self._drawn_ns >= REDRAW_NS:
            self._fresh = False
            self._canvas = draw(result, status, shape, out=self._canvas, overlay=self.overlay)
            cv2.imshow(self._title, self._canvas)  # which copies it
            self._drawn_ns, self._drawn_shape = now, shape
            self.shown += fresh
        quits = [self._quits(key) for key in self._keyboard.pressed(self)]
        return not any(quits)

    def _quits(self, key: int) -> bool:
        """Do what ``key`` does; whether it ends the run."""
        if key in OVERLAY_KEYS:
            self.overlay = not self.overlay
            self._drawn_shape = (0, 0)  # draw at once
        if (action := self.actions.get(chr(key))) is not None:
            action()
        return key in QUIT_KEYS

    def close(self) -> str | None:
        if self._open:
            self._open = False
            self._keyboard.forget(self)
            if self._is_visible():
                cv2.destroyWindow(self._title)
                cv2.pollKey()
        return f"window: {self.shown} results shown"

    def _create(self) -> None:
        try:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL)
            if self._tiled:
                cv2.moveWindow(self._title, self._left, self._top)
        except cv2.error as error:
            raise SinkError(f"a window cannot be opened: {_last_line(error)}; {ADVICE}") from error
        self._open = True
        self._resize(FIRST_SHAPE)

    def _resize(self, shape: tuple[int, ...]) -> None:
        height, width = shape
        ratio = min(OF_SCREEN * self._space[0] / width, OF_SCREEN * self._space[1] / height)
        ratio = min(ratio, max(1.0, NARROWEST / width))
        cv2.resizeWindow(self._title, round(width * ratio), round(height * ratio))

    def _shape(self) -> tuple[int, int]:
        """(H, W) of the window's inside."""
        _left, _top, width, height = cv2.getWindowImageRect(self._title)
        return (height, width) if height > 0 and width > 0 else FIRST_SHAPE

    def _is_visible(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # Qt's, after the last window was closed
            return False


def screen_size() -> tuple[int, int]:
    """(width, height) of the screen in pixels.

    Raises SinkError where there is none. Asked of the X server itself: without one, OpenCV's
    window library does not raise but ends the process.
    """
    if cv2.currentUIFramework() == "":
        raise SinkError(
            "the installed OpenCV has no windows; pip install opencv-python, or run with --display none"
        )
    if not sys.platform.startswith("linux"):
        return UNKNOWN_SCREEN
    _check_libraries()
    os.environ.setdefault("QT_QPA_PLATFORM", "xcb")  # OpenCV's Qt has no other, and warns on Wayland
    if not Path(os.environ.get("QT_QPA_FONTDIR", "/")).is_dir():
        os.environ["QT_QPA_FONTDIR"] = str(Path(cv2.__file__).parent)  # Qt warns where the folder is missing
    display = os.environ.get("DISPLAY", "")
    if not display:
        raise SinkError(f"there is no screen for a window: DISPLAY is not set; {ADVICE}")
    size = _ask_x11(display)
    if size is None:
        raise SinkError(f"there is no screen for a window: DISPLAY {display} does not answer; {ADVICE}")
    return size


def _check_libraries() -> None:
    """Raises SinkError where PyAV's X11 libraries took the place of OpenCV's: its windows would hang."""
    bundled = Path(cv2.__file__).parents[1] / "opencv_python.libs"
    mapped = Path("/proc/self/maps").read_text().splitlines()
    files = {Path(line.split(maxsplit=5)[-1]) for line in mapped if "/av.libs/libxcb" in line}
    if any((bundled / file.name).exists() for file in files):
        raise SinkError(
            "PyAV was imported before OpenCV, whose windows then hang; import cv2 or clesr before av"
        )


class _Screen(ctypes.Structure):
    """The beginning of xcb_screen_t (xproto.h)."""

    _fields_ = (
        ("words", ctypes.c_uint32 * 5),
        ("width", ctypes.c_uint16),
        ("height", ctypes.c_uint16),
    )


class _ScreenIterator(ctypes.Structure):
    """xcb_screen_iterator_t (xproto.h)."""

    _fields_ = (("data", ctypes.POINTER(_Screen)), ("rem", ctypes.c_int), ("index", ctypes.c_int))


def _ask_x11(display: str) -> tuple[int, int] | None:
    """The size of the X server's first screen, None where it does not let us in."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError as error:
        raise SinkError(f"a window needs libxcb ({error}); install the package libxcb1") from error
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connect.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
    xcb.xcb_get_setup.restype = ctypes.c_void_p
    xcb.xcb_setup_roots_iterator.restype = _ScreenIterator
    for function in (
        xcb.xcb_connection_has_error,
        xcb.xcb_get_setup,
        xcb.xcb_setup_roots_iterator,
        xcb.xcb_disconnect,
    ):
        function.argtypes = (ctypes.c_void_p,)
    connection = xcb.xcb_connect(display.encode(), None)
    try:
        if xcb.xcb_connection_has_error(connection):
            return None
        screen = xcb.xcb_setup_roots_iterator(xcb.xcb_get_setup(connection)).data.contents
        return int(screen.width), int(screen.height)
    finally:
        xcb.xcb_disconnect(connection)


def _last_line(error: cv2.error) -> str:
    return str(error).strip().splitlines()[-1]
