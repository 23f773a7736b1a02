"""The process that draws a window: ``python -m clesr.pipeline.sinks.window.process SOCKET MEMORY TITLE INDEX COUNT``.

It imports OpenCV, NumPy and Pillow alone, so it is there quickly, and PyAV's X11 libraries cannot come in its way
(OpenCV's windows hang with them: PyAV issue 1050, OpenCV issue 29195). Until there is something to draw it says what is
being opened. It gets what to draw one at a time: for each list of sizes that comes through SOCKET there is a message in
MEMORY, and when that is drawn it answers with the window's shape, where things stand on it, and the seconds of a core
that it took. It also says what is done with keys and mouse, and that the window was closed. It ends when nobody is at
the other end.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import WHY, SinkError, first_line, told_as
from clesr.engines.common.parent import end_with_parent
from clesr.engines.common.processor import give_way
from clesr.engines.common.shared_message import SharedMessage
from clesr.engines.common.waiting import ready
from clesr.pipeline.display.alerts import Alert
from clesr.pipeline.display.facts import RED, figure_text
from clesr.pipeline.display.layout import Box
from clesr.pipeline.display.overlay import Canvas
from clesr.pipeline.display.text import Pen
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.window import banners
from clesr.pipeline.sinks.window.connection import MOST_BYTES
from clesr.pipeline.sinks.window.hud import draw, draw_opening, text_size
from clesr.pipeline.sinks.window.mouse import MOVE
from clesr.pipeline.sinks.window.scene import Drawn, Scene
from clesr.pipeline.sinks.window.x_events import PressedKey, XEvents, first_screen

LOOK_S = 0.01  # between two looks at keys and mouse while they are used
RESTING_S = 0.1  # between two looks, which cost the engine's cores, while they are not
USED_NS = 2_000_000_000  # for which one use counts
OF_SCREEN = 0.9  # of its width and height are used at most
NARROWEST = 480  # pixels, so that the display stays readable over a small image
BUTTONS = 7  # of the mouse, in OpenCV's flags
OPENING_NS = 200_000_000  # between two drawings of what is being opened
REPEAT_NS = 1_250_000_000  # in which the same key counts as held where nobody knows: more than systems wait
SILENT_NS = 2_000_000_000  # without anything to draw, after which the image is no longer shown as live
STARTING = "starting"
FIRST_SHAPE = (480, 640)  # before the first image
UNKNOWN_SCREEN = (1280, 720)
ADVICE = "run with --display browser, with --display none, on a desktop, or over ssh -X"


class Screen:
    """The window itself. Raises SinkError where there is no screen."""

    def __init__(self, place: WindowPlacement) -> None:
        self._place = place
        self._left, self._top, *self._space = place.part_of(screen_size())
        self._fitted: tuple[int, ...] | None = None  # LR shape of the image that it was last sized for
        self._canvas: Canvas | None = None
        self._full = False
        self._pointed: list[tuple[int, int, int, int]] = []
        self._events = XEvents()
        self._create()

    def show(self, scene: Scene) -> Drawn:
        """Draw ``scene``."""
        result, view = scene.result, scene.view
        self._events.hold()
        if view.full_screen != self._full:
            self._full = view.full_screen
            cv2.setWindowProperty(self._place.title, cv2.WND_PROP_FULLSCREEN, float(self._full))
        if result is not None and result.lr.shape != self._fitted:
            self._fitted = result.lr.shape
            if not self._full:
                self._resize((result.image.shape[0], result.image.shape[1] * scene.aspect))
        drawn = draw(scene, self._shape(), self._canvas)
        self._canvas = drawn.canvas
        cv2.imshow(self._place.title, drawn.canvas)  # which copies it
        return drawn

    def show_silence(self, age_ns: int) -> None:
        """Make what is shown one that nobody takes for live, where nothing new came for so long."""
        if self._canvas is not None:
            canvas = self._canvas.copy()
            banners.grey(canvas)
            height, width = canvas.shape[:2]
            alert = Alert("NO ANSWER", "from clesr", RED, figure_text(age_ns))
            banners.show_signal(Pen(canvas), alert, Box(0, 0, width, height), 0, text_size((height, width)))
            cv2.imshow(self._place.title, canvas)

    def show_opening(self, lines: Sequence[str]) -> None:
        """Say what is being opened."""
        cv2.imshow(self._place.title, draw_opening(lines, self._shape()))

    @property
    def descriptor(self) -> int | None:
        """There is something to read from it when the window is used; None where that is not known."""
        return self._events.descriptor

    def pointed(self) -> list[tuple[int, int, int, int]]:
        """What the mouse has done since the last call: OpenCV's event, x and y, and flags."""
        pointed, self._pointed = [*self._pointed, *self._events.turned()], []
        return pointed

    def pressed(self) -> PressedKey | None:
        """The key that was pressed since the last call."""
        key = cv2.pollKey()
        return None if key == -1 else self._events.pressed(key)

    @property
    def is_closed(self) -> bool:
        """Whether the user has closed it."""
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
        cv2.setMouseCallback(self._place.title, self._point)
        self._resize(FIRST_SHAPE)

    def _point(self, event: int, x: int, y: int, flags: int, _: object) -> None:
        moved = event == MOVE
        if moved and not flags & BUTTONS:
            return
        if moved and self._pointed and self._pointed[-1][0] == MOVE:
            self._pointed.pop()  # where it is now counts
        self._pointed.append((event, x, y, flags))

    def _resize(self, shape: tuple[float, float]) -> None:
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
    os.environ.setdefault("QT_XCB_NO_XI2", "1")  # the wheel comes as buttons (``x_events``)
    os.environ.setdefault("QT_QPA_PLATFORM", "xcb")  # OpenCV's Qt has no other, and warns on Wayland
    if not Path(os.environ.get("QT_QPA_FONTDIR", "/")).is_dir():
        os.environ["QT_QPA_FONTDIR"] = str(Path(cv2.__file__).parent)  # Qt warns where the folder is missing
    display = os.environ.get("DISPLAY", "")
    if not display:
        raise SinkError(f"there is no screen for a window: DISPLAY is not set; {ADVICE}")
    with told_as(SinkError, f"a window needs libxcb ({WHY}); install the package libxcb1"):
        size = first_screen(display)
    if size is None:
        raise SinkError(f"there is no screen for a window: DISPLAY {display} does not answer; {ADVICE}")
    return size


def serve(connection: socket.socket, message: SharedMessage, place: WindowPlacement) -> None:
    """Draw what comes until nobody sends any more, or the user closes the window."""

    def say(**words: Any) -> None:
        connection.send(json.dumps(words).encode())

    try:
        screen, opening, silence, held = Screen(place), Opening(), Silence(), HeldKey()
        used_ns, shows, gives_way = SYSTEM.now_ns(), False, False
        screen.show_opening(opening.lines())
        say(ready=True)
        told_s = time.thread_time()
        while True:
            now, events = SYSTEM.now_ns(), screen.descriptor
            rests = events is not None and now - used_ns > USED_NS
            come = ready(
                [connection.fileno(), *([events] if events is not None else [])],
                RESTING_S if rests else LOOK_S,
            )
            if events in come:
                used_ns = SYSTEM.now_ns()
            if connection.fileno() in come:
                packet = connection.recv(MOST_BYTES)
                if not packet:
                    return
                told = json.loads(packet)
                if isinstance(told, dict):
                    opening.begin(told["opening"])
                else:
                    scene = message.get(told)
                    drawn = screen.show(scene)
                    shows |= scene.result is not None
                    opening.end()
                    silence.end()
                    layout = drawn.layout and (
                        drawn.layout.place, drawn.layout.crop, drawn.layout.shape, drawn.layout.panes
                    )  # fmt: skip
                    begun_s, told_s = told_s, time.thread_time()
                    took_s = told_s - begun_s  # with what brought the picture before to the screen
                    say(shape=drawn.canvas.shape[:2], layout=layout, alarm=drawn.alarm, took_s=took_s)
            if opening.is_due():
                screen.show_opening(opening.lines())
            if silence.is_due():
                screen.show_silence(silence.age_ns)
            key = screen.pressed()  # and what was drawn comes to the screen
            if shows and not gives_way:
                give_way()
                gives_way = True
            for pointed in screen.pointed():
                say(mouse=pointed)
            if key is not None:
                say(key=key.code, repeated=held.repeats(key))
            if screen.is_closed:
                say(closed=True)
                return
    except OSError:
        return  # nobody is there
    except Exception as error:  # noqa: BLE001 - the other process says it
        say(error=first_line(error))


class HeldKey:
    """Tells a key that is held from one that is pressed again; by time where the key does not say which."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._last, self._last_ns = -1, 0

    def repeats(self, key: PressedKey) -> bool:
        """Whether ``key``, which came now, is one that is held."""
        now = self._clock.now_ns()
        soon = key.code == self._last and now - self._last_ns < REPEAT_NS
        self._last, self._last_ns = key.code, now
        return soon if key.repeated is None else key.repeated


class Silence:
    """How long nothing has come to be drawn: a parent that works sends something all the time."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._since_ns: int | None = None
        self._drawn_ns = 0

    @property
    def age_ns(self) -> int:
        return 0 if self._since_ns is None else self._clock.now_ns() - self._since_ns

    def end(self) -> None:
        """Something came."""
        self._since_ns = self._clock.now_ns()

    def is_due(self) -> bool:
        """Whether that is to be drawn, for the first time or again."""
        now = self._clock.now_ns()
        if self.age_ns < SILENT_NS or now - self._drawn_ns < OPENING_NS:
            return False
        self._drawn_ns = now
        return True


class Opening:
    """What is being opened, and for how long; counts on while its parent imports and compiles."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock, self._begun_ns, self._drawn_ns = clock, clock.now_ns(), clock.now_ns()
        self._lines: list[str] = []
        self._ended = False

    def begin(self, lines: list[str]) -> None:
        self._lines, self._begun_ns, self._drawn_ns = lines, self._clock.now_ns(), 0

    def end(self) -> None:
        self._ended = True

    def is_due(self) -> bool:
        """Whether it is to be drawn again."""
        return not self._ended and self._clock.now_ns() - self._drawn_ns >= OPENING_NS

    def lines(self) -> list[str]:
        """As they are now."""
        self._drawn_ns = self._clock.now_ns()
        if not self._lines:
            return [STARTING]
        seconds = (self._drawn_ns - self._begun_ns) / 1e9
        return [
            *self._lines[:-1],
            f"{self._lines[-1]} ({seconds:.0f} s)" if seconds >= 1 else self._lines[-1],
        ]


def main() -> None:
    connection, memory, title, index, count = sys.argv[1:]
    end_with_parent()
    cv2.setNumThreads(1)  # the cores are the engine's
    place = WindowPlacement(title, int(index), int(count))
    serve(socket.socket(fileno=int(connection)), SharedMessage(int(memory)), place)
    os._exit(0)  # the window library's own end may wait for the X server


if __name__ == "__main__":
    main()
