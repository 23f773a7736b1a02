"""What OpenCV does not tell of its windows, asked of the X server: turns of the mouse wheel, capital letters, and keys
that are held.

OpenCV's windows of Qt enlarge what they show by themselves when the wheel is turned, facts and all, and nothing resets
that. So the wheel's buttons are grabbed from the X server for the window (X11 protocol, GrabButton). Of a letter they
say which it is, and not whether Shift is held; of a key that is held, that it was pressed, again and again. The server
tells both to any client that asks for the window's keys. It repeats a key that is down as a release and a press at the
same time; some servers say a release before the first press, too, so it is kept which keys are down.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections import deque
from ctypes import POINTER, c_char_p, c_int, c_uint8, c_uint16, c_uint32, c_void_p
from typing import NamedTuple

from clesr.pipeline.sinks.window.mouse import NOTCH, WHEEL

UP, DOWN = 4, 5  # buttons
KEY_PRESS, KEY_RELEASE, BUTTON_PRESS = 2, 3, 4  # events
KEYMAP = 11  # the event that tells which keys are down, with the focus
KEY_MASK, BUTTON_MASK = 1 | 2 | 1 << 14, 4  # as which they are asked for
USE_MASK = 1 << 6 | 1 << 15 | 1 << 17  # the pointer moves, a part is to be painted anew, the size changes
SHIFT, LOCK = 1, 2  # modifiers
ANY_MODIFIER, ASYNC, CARDINAL = 0x8000, 1, 6
EVENT_MASK = 1 << 11  # attribute of a window
REPLY = 32  # bytes of one without its lists
KEYCODES = 34  # bytes into the setup: the lowest and the highest (X11 protocol)
QUERY_POINTER_CHILD, MAP_STATE = 12, 26  # bytes into replies
VIEWABLE = 2
DEEPEST = 16  # windows inside of each other
MOST = 4096  # windows that are looked at
KEPT = 32  # keys that nobody has asked for

LETTERS = range(ord("a"), ord("z") + 1)
CONTROL = range(
    32
)  # in ASCII; their keysyms, as those of the number block, end in the same bits (keysymdef.h)
NUMBER_BLOCK = {*range(ord("9") + 1), ord("="), 127}

WheelTurn = tuple[int, int, int, int]


class PressedKey(NamedTuple):
    """A key by OpenCV's ``code``, but a capital letter by its own. ``repeated``: it is held, and was pressed before;
    None where nobody knows."""

    code: int
    repeated: bool | None


class _Press(NamedTuple):
    keycode: int
    modifiers: int
    repeated: bool


class XEvents:
    """The wheel and the keys of the windows of this process; nothing where there is no X server."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._turned: list[WheelTurn] = []
        self._keys: deque[_Press] = deque(maxlen=KEPT)
        self._down: set[int] = set()  # keycodes
        self._released = (0, 0, False)  # the keycode that was last, when, and whether it was down before
        self._connection: c_void_p | None = None
        if not sys.platform.startswith("linux") or not os.environ.get("DISPLAY"):
            return
        with contextlib.suppress(OSError, AttributeError):
            self._xcb, self._free = _libraries()
            connection = c_void_p(self._xcb.xcb_connect(os.environ["DISPLAY"].encode(), None))
            if not self._xcb.xcb_connection_has_error(connection):
                self._connection = connection
                name = b"_NET_WM_PID"
                cookie = self._xcb.xcb_intern_atom(connection, 0, len(name), name)
                self._pid_atom = self._number(self._xcb.xcb_intern_atom_reply(connection, cookie, None), 8)

    @property
    def descriptor(self) -> int | None:
        """There is something to read from it when the windows that are held are used; None before one is."""
        return int(self._xcb.xcb_get_file_descriptor(self._connection)) if self._held else None

    def hold(self) -> None:
        """Take the wheel and hear of the keys of this process's windows: of those that are seen at first, and of the
        one under the pointer."""
        if self._connection is None:
            return
        pointed = self._pointed_window()
        for window in {pointed} if self._held else {pointed, *self._seen_windows()}:
            if window and window not in self._held and self._process_of(window) == os.getpid():
                self._hold(window)

    def turned(self) -> list[WheelTurn]:
        """How the wheel was turned since the last call, as events of OpenCV's: kind, x and y in the window, flags."""
        self._listen()
        turned, self._turned = self._turned, []
        return turned

    def pressed(self, key: int) -> PressedKey:
        """What is known of ``key``, which OpenCV says was pressed last: with Shift or Caps Lock a letter is a capital,
        and between two looks it may have been pressed, and repeated."""
        if self._connection is None:
            return PressedKey(key, None)
        codes = self._codes_of(key)
        self._listen()  # after an answer of the server: it has told of every key that OpenCV knows
        presses = [press for press in self._keys if press.keycode in codes]
        if not presses:  # told of before, with one that came earlier; or the window is not ours yet
            return PressedKey(key, None)
        while self._keys.popleft() is not presses[-1]:
            pass  # OpenCV tells of the last key alone; of those that came since it tells next
        modifiers = presses[-1].modifiers
        capital = key in LETTERS and bool(modifiers & SHIFT) != bool(modifiers & LOCK)
        return PressedKey(ord(chr(key).upper()) if capital else key, all(press.repeated for press in presses))

    def _hold(self, window: int) -> None:
        for button in (UP, DOWN):
            self._xcb.xcb_grab_button(
                self._connection, 0, window, BUTTON_MASK, ASYNC, ASYNC, 0, 0, button, ANY_MODIFIER
            )
        wanted = c_uint32(KEY_MASK | USE_MASK)
        self._xcb.xcb_change_window_attributes(self._connection, window, EVENT_MASK, ctypes.byref(wanted))
        cookie = self._xcb.xcb_query_keymap(self._connection)
        self._down = _set_bits(
            self._taken(self._xcb.xcb_query_keymap_reply(self._connection, cookie, None))[8:]
        )
        self._held.add(window)

    def _listen(self) -> None:
        """Take in the events that have come."""
        while self._connection is not None:
            event = self._xcb.xcb_poll_for_event(self._connection)
            if not event:
                break
            data = ctypes.string_at(event, 32)
            kind, detail, at, x, y, state = struct.unpack_from("<BB2xI16xhhH", data)
            self._free(event)
            if kind & 0x7F == BUTTON_PRESS and detail in (UP, DOWN):
                self._turned.append((WHEEL, x, y, ((NOTCH if detail == UP else -NOTCH) & 0xFFFF) << 16))
            elif kind & 0x7F == KEY_PRESS:
                self._keys.append(_Press(detail, state, self._released == (detail, at, True)))
                self._down.add(detail)
            elif kind & 0x7F == KEY_RELEASE:
                self._released = detail, at, detail in self._down
                self._down.discard(detail)
            elif kind & 0x7F == KEYMAP:
                self._down = _set_bits(b"\0" + data[1:])

    def _codes_of(self, key: int) -> set[int]:
        """The keycodes that make ``key`` of OpenCV's, a letter as a capital, too."""
        first, last = ctypes.string_at(self._xcb.xcb_get_setup(self._connection) + KEYCODES, 2)
        cookie = self._xcb.xcb_get_keyboard_mapping(self._connection, first, last - first + 1)
        data = self._taken(self._xcb.xcb_get_keyboard_mapping_reply(self._connection, cookie, None))
        if not data:
            return set()
        symbols = struct.unpack_from(f"<{(len(data) - REPLY) // 4}I", data, REPLY)
        wanted = {key}
        if key in LETTERS:
            wanted.add(ord(chr(key).upper()))
        if key in CONTROL:
            wanted.add(0xFF00 | key)
        if key in NUMBER_BLOCK:
            wanted.add(0xFF80 | key)
        return {first + index // data[1] for index, symbol in enumerate(symbols) if symbol in wanted}

    def _seen_windows(self) -> list[int]:
        """All windows on the screen, of all programs."""
        level, found = [self._root()], list[int]()
        for _ in range(DEEPEST):
            level = [child for window in level for child in self._children(window) if self._is_seen(child)]
            found += level
            if not level or len(found) > MOST:
                break
        return found

    def _children(self, window: int) -> tuple[int, ...]:
        cookie = self._xcb.xcb_query_tree(self._connection, window)
        data = self._taken(self._xcb.xcb_query_tree_reply(self._connection, cookie, None))
        return struct.unpack_from(f"<{(len(data) - REPLY) // 4}I", data, REPLY) if data else ()

    def _is_seen(self, window: int) -> bool:
        cookie = self._xcb.xcb_get_window_attributes(self._connection, window)
        data = self._taken(self._xcb.xcb_get_window_attributes_reply(self._connection, cookie, None))
        return bool(data) and data[MAP_STATE] == VIEWABLE

    def _pointed_window(self) -> int:
        """The innermost window under the pointer."""
        assert self._connection is not None
        window = self._root()
        for _ in range(DEEPEST):
            cookie = self._xcb.xcb_query_pointer(self._connection, window)
            reply = self._xcb.xcb_query_pointer_reply(self._connection, cookie, None)
            child = self._number(reply, QUERY_POINTER_CHILD)
            if not child:
                break
            window = child
        return window

    def _root(self) -> int:
        setup = self._xcb.xcb_get_setup(self._connection)
        return int(self._xcb.xcb_setup_roots_iterator(setup).data.contents.root)

    def _process_of(self, window: int) -> int:
        cookie = self._xcb.xcb_get_property(self._connection, 0, window, self._pid_atom, CARDINAL, 0, 1)
        reply = self._xcb.xcb_get_property_reply(self._connection, cookie, None)
        return self._number(reply, REPLY)

    def _number(self, reply: int | None, at: int) -> int:
        """The number that many bytes into a reply; 0 where there is none."""
        data = self._taken(reply)
        return int(struct.unpack_from("<I", data, at)[0]) if len(data) >= at + 4 else 0

    def _taken(self, reply: int | None) -> bytes:
        """The bytes of a reply, whose memory is given back; none where there is none."""
        if not reply:
            return b""
        (length,) = struct.unpack_from("<I", ctypes.string_at(reply, 8), 4)
        data = ctypes.string_at(reply, REPLY + 4 * length)
        self._free(reply)
        return data


def _set_bits(data: bytes) -> set[int]:
    """The numbers of the bits that are 1, from the lowest of the first byte on."""
    return {8 * at + bit for at, byte in enumerate(data) for bit in range(8) if byte >> bit & 1}


def first_screen(display: str) -> tuple[int, int] | None:
    """(width, height) of the first screen of the X server ``display``; None where that does not let us in. Raises
    OSError without libxcb."""
    xcb, _ = _libraries()
    connection = xcb.xcb_connect(display.encode(), None)
    try:
        if xcb.xcb_connection_has_error(connection):
            return None
        screen = xcb.xcb_setup_roots_iterator(xcb.xcb_get_setup(connection)).data.contents
        return int(screen.width), int(screen.height)
    finally:
        xcb.xcb_disconnect(connection)


class _Screen(ctypes.Structure):
    """The beginning of xcb_screen_t (xproto.h)."""

    _fields_ = (("root", c_uint32), ("other", c_uint32 * 4), ("width", c_uint16), ("height", c_uint16))


class _Screens(ctypes.Structure):
    """xcb_screen_iterator_t (xproto.h)."""

    _fields_ = (("data", POINTER(_Screen)), ("rem", c_int), ("index", c_int))


class _Cookie(ctypes.Structure):
    """The cookie of any request (xcb.h)."""

    _fields_ = (("sequence", c_uint32),)


def _libraries() -> tuple[ctypes.CDLL, ctypes._NamedFuncPointer]:
    """libxcb, and what frees memory that it gave."""
    xcb, free = ctypes.CDLL("libxcb.so.1"), ctypes.CDLL(None).free
    free.argtypes = (c_void_p,)
    xcb.xcb_connect.restype = xcb.xcb_get_setup.restype = xcb.xcb_poll_for_event.restype = c_void_p
    xcb.xcb_setup_roots_iterator.restype = _Screens
    xcb.xcb_connect.argtypes = (c_char_p, c_void_p)
    plain = (
        "connection_has_error",
        "get_setup",
        "setup_roots_iterator",
        "poll_for_event",
        "get_file_descriptor",
    )
    for name in (*plain, "disconnect"):
        getattr(xcb, f"xcb_{name}").argtypes = (c_void_p,)
    requests = {
        "intern_atom": (c_uint8, c_uint16, c_char_p),
        "query_keymap": (),
        "query_pointer": (c_uint32,),
        "query_tree": (c_uint32,),
        "get_window_attributes": (c_uint32,),
        "get_keyboard_mapping": (c_uint8, c_uint8),
        "get_property": (c_uint8, *[c_uint32] * 5),
    }
    for name, arguments in requests.items():
        request, reply = getattr(xcb, f"xcb_{name}"), getattr(xcb, f"xcb_{name}_reply")
        request.argtypes, request.restype = (c_void_p, *arguments), _Cookie
        reply.argtypes, reply.restype = (c_void_p, _Cookie, c_void_p), c_void_p
    xcb.xcb_grab_button.restype = xcb.xcb_change_window_attributes.restype = _Cookie
    xcb.xcb_grab_button.argtypes = (
        c_void_p, c_uint8, c_uint32, c_uint16, c_uint8, c_uint8, c_uint32, c_uint32, c_uint8, c_uint16,
    )  # fmt: skip
    xcb.xcb_change_window_attributes.argtypes = (c_void_p, c_uint32, c_uint32, c_void_p)
    return xcb, free
