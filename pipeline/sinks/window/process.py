"""The process that draws a window: ``python -m clesr.pipeline.sinks.window.process SOCKET MEMORY TITLE INDEX COUNT``.

It imports OpenCV and NumPy alone, so it is there quickly, and PyAV's X11 libraries cannot come in its way (OpenCV's
windows hang with them: PyAV issue 1050, OpenCV issue 29195). It gets what to draw one at a time: for each list of sizes
that comes through SOCKET there is a message in MEMORY, and when that is drawn it answers with the window's shape. It
also says which keys are pressed and that the window was closed. It ends when nobody is at the other end.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import cv2

from clesr.engines.common.errors import WHY, SinkError, first_line, told_as
from clesr.pipeline.frame import Result
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.window.hud import draw
from clesr.pipeline.sinks.window.overlay import Canvas
from clesr.pipeline.sinks.window.window import MOST_BYTES, SharedMessage
from clesr.pipeline.status import Status

LOOK_S = 0.01  # between two looks at keys and mouse
OF_SCREEN = 0.9  # of its width and height are used at most
NARROWEST = 480  # pixels, so that the display stays readable over a small image
FIRST_SHAPE = (480, 640)  # before the first image
UNKNOWN_SCREEN = (1280, 720)
ADVICE = "run with --display none, on a desktop, or over ssh -X"


class Screen:
    """The window itself. Raises SinkError where there is no screen."""

    def __init__(self, place: WindowPlacement) -> None:
        self._place = place
        self._left, self._top, *self._space = place.part_of(screen_size())
        self._fitted: tuple[int, ...] | None = None  # shape of the image that the window was last sized for
        self._open = False
        self._canvas: Canvas | None = None

    def show(self, result: Result | None, status: Status, overlay: bool) -> tuple[int, int]:
        """Draw; (H, W) of the window's inside."""
        if not self._open:
            self._create()
        if result is not None and result.image.shape != self._fitted:
            self._fitted = result.image.shape
            self._resize(result.image.shape)
        shape = self._shape()
        self._canvas = draw(result, status, shape, out=self._canvas, overlay=overlay)
        cv2.imshow(self._place.title, self._canvas)  # which copies it
        return shape

    @property
    def is_closed(self) -> bool:
        """Whether the user has closed it."""
        if not self._open:
            return False
        try:
            return cv2.getWindowProperty(self._place.title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # Qt's, after the last window was closed
            return True

    def _create(self) -> None:
        try:
            flags = cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL
            cv2.namedWindow(self._place.title, flags)
            if self._place.count > 1:
                cv2.moveWindow(self._place.title, self._left, self._top)
        except cv2.error as error:
            last = str(error).strip().splitlines()[-1]
            raise SinkError(f"a window cannot be opened: {last}; {ADVICE}") from error
        self._open = True
        self._resize(FIRST_SHAPE)

    def _resize(self, shape: tuple[int, ...]) -> None:
        height, width = shape
        ratio = min(OF_SCREEN * self._space[0] / width, OF_SCREEN * self._space[1] / height)
        ratio = min(ratio, max(1.0, NARROWEST / width))
        cv2.resizeWindow(self._place.title, round(width * ratio), round(height * ratio))

    def _shape(self) -> tuple[int, int]:
        _left, _top, width, height = cv2.getWindowImageRect(self._place.title)
        return (height, width) if height > 0 and width > 0 else FIRST_SHAPE


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


class _Screen(ctypes.Structure):
    """The beginning of xcb_screen_t (xproto.h)."""

    _fields_ = (("words", ctypes.c_uint32 * 5), ("width", ctypes.c_uint16), ("height", ctypes.c_uint16))


class _ScreenIterator(ctypes.Structure):
    """xcb_screen_iterator_t (xproto.h)."""

    _fields_ = (("data", ctypes.POINTER(_Screen)), ("rem", ctypes.c_int), ("index", ctypes.c_int))


def _ask_x11(display: str) -> tuple[int, int] | None:
    """The size of the X server's first screen, None where it does not let us in."""
    with told_as(SinkError, f"a window needs libxcb ({WHY}); install the package libxcb1"):
        xcb = ctypes.CDLL("libxcb.so.1")
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


def serve(connection: socket.socket, message: SharedMessage, place: WindowPlacement) -> None:
    """Draw what comes until nobody sends any more, or the user closes the window."""

    def say(**words: Any) -> None:
        connection.send(json.dumps(words).encode())

    try:
        screen = Screen(place)
        say(ready=True)
        while True:
            if select.select([connection], [], [], LOOK_S)[0]:
                packet = connection.recv(MOST_BYTES)
                if not packet:
                    return
                say(shape=screen.show(*message.get(json.loads(packet))))
            key = cv2.pollKey()
            if key != -1:
                say(key=key & 0xFF)
            if screen.is_closed:
                say(closed=True)
                return
    except OSError:
        return  # nobody is there
    except Exception as error:  # noqa: BLE001 - the other process says it
        say(error=first_line(error))


def _end_with_parent() -> None:
    """Standard input ends when the other process does, in whatever way, and whatever hangs here."""
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    connection, memory, title, index, count = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the cores are the engine's
    place = WindowPlacement(title, int(index), int(count))
    serve(socket.socket(fileno=int(connection)), SharedMessage(int(memory)), place)
    os._exit(0)  # the window library's own end may wait for the X server


if __name__ == "__main__":
    main()
