"""What the window shows: the newest image, fitted, under a head-up display that says how far to trust it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from clesr.engines.common.errors import printable
from clesr.engines.trust import NOISE_KNOWN
from clesr.engines.view import TILE, eight_bits
from clesr.pipeline.frame import Image, Outcome, Result, Told
from clesr.pipeline.sinks.window import overlay as heat
from clesr.pipeline.sinks.window.overlay import Canvas
from clesr.pipeline.status import State, Status

Colour = tuple[int, int, int]  # blue, green, red

WHITE: Colour = (240, 240, 240)
GRAY: Colour = (170, 170, 170)
GREEN: Colour = (120, 220, 120)
AMBER: Colour = (40, 180, 255)
RED: Colour = (70, 70, 255)
BACKGROUND = 24  # gray beside the image
STRIP = 0.25  # how much of the image shows through a strip
DIMMED = 0.35  # how much of an image that is not live is left
OLD_PERIODS = 3  # frame periods after which an image is old
FONT = cv2.FONT_HERSHEY_SIMPLEX
BOLD = cv2.FONT_HERSHEY_DUPLEX
SEPARATOR = "    "


class Words(NamedTuple):
    """A piece of a line, in its own colour."""

    text: str
    colour: Colour = WHITE


class Alert(NamedTuple):
    """A mark that cannot be overlooked: a banner and a frame around the image."""

    text: str
    detail: str
    colour: Colour


def draw(
    result: Result | None,
    status: Status,
    shape: tuple[int, int],
    *,
    out: Canvas | None = None,
    overlay: bool = False,
) -> Canvas:
    """The window's content (H, W, 3), blue-green-red: the image of ``result`` fitted into ``shape`` (H, W) with its
    proportions, 16-bit by its top 8 bits, and the display over it.

    An image that is not live (``signal_alert``) or not super-resolved (``method_alert``) is marked, and so is the
    tile that disagrees most with what was measured, where it is below the limit. ``overlay`` colours where
    images disagree. The arrays of ``result`` are not changed; ``out`` is drawn into where it has the right shape.
    """
    signal, method = signal_alert(result, status), method_alert(result, status)
    canvas = _fit(result.image, shape, out) if result else _blank(shape)
    if result is not None:
        _show_fidelity(canvas, result, overlay)
    if status.stalled and result is not None:
        cv2.convertScaleAbs(canvas, canvas, DIMMED)
    size = text_size(shape[1])
    alarm = [[Words(status.alarm, RED)]] if status.alarm else []
    top = _strip(canvas, [*alarm, *top_lines(status), *fidelity_lines(result)], size, at_top=True)
    bottom = _strip(canvas, bottom_lines(status), size, at_top=False)
    if overlay and result is not None and result.check is not None:
        _legend(canvas, heat.Scale.of(result.check.limit_db), canvas.shape[0] - bottom, size)
    if method is not None:
        _banner(canvas, method, top, size)
    if signal is not None:
        _banner(canvas, signal, shape[0] // 2 - 2 * size, 2 * size)
    alert = signal or method
    if alert is not None:
        cv2.rectangle(canvas, (0, 0), (shape[1] - 1, shape[0] - 1), alert.colour, max(3, size))
    return canvas


def is_old(status: Status) -> bool:
    """Whether the image on show is older than three frame periods."""
    age, period = status.age_ns, status.period_ns
    return status.stalled or (age is not None and period is not None and age > OLD_PERIODS * period)


def signal_alert(result: Result | None, status: Status) -> Alert | None:
    """Why the image on show must not be taken for a live one; None where it is live."""
    if result is None:
        return Alert(
            "NO SIGNAL" if status.stalled else "WAITING", "no image yet", RED if status.stalled else GRAY
        )
    if status.stalled:
        return Alert("NO SIGNAL", f"the last image is {age_text(status.age_ns)} old", RED)
    if is_old(status):
        return Alert("OLD IMAGE", f"{age_text(status.age_ns)} behind", RED)
    return None


def method_alert(result: Result | None, status: Status) -> Alert | None:
    """Why the image on show is not super-resolved; None where it is."""
    if result is not None and result.outcome is Outcome.FAILED:
        return Alert("BICUBIC ONLY", status.message or "the engine failed on this frame", AMBER)
    if status.state is State.DEGRADED:
        return Alert("DEGRADED", status.message or "the engine failed", AMBER)
    if status.state is State.FAILED:
        return Alert("FAILED", status.message or "the run has failed", RED)
    return None


def age_text(age_ns: int | None) -> str:
    """Milliseconds, from ten seconds on seconds."""
    if age_ns is None:
        return "-"
    return f"{age_ns / 1e6:.0f} ms" if age_ns < 10e9 else f"{age_ns / 1e9:.0f} s"


def top_lines(status: Status) -> list[list[Words]]:
    """State, rate and age; engine and model. Green and white are for what is live."""
    colours = {State.RUNNING: GREEN, State.DEGRADED: AMBER, State.FAILED: RED}
    colour = GRAY if status.stalled and status.state is State.RUNNING else colours.get(status.state, WHITE)
    engine = status.engine or "no engine yet"
    model = "" if status.model in engine else f", {status.model}"
    return [
        [
            *([Words("REC", RED)] if status.recording else []),
            Words(str(status.state).upper(), colour),
            Words(f"{status.fps:.1f} frames/s", GRAY if status.stalled else WHITE),
            Words(f"age {age_text(status.age_ns)}", RED if is_old(status) else WHITE),
        ],
        [Words(engine + model, GRAY)],
    ]


def bottom_lines(status: Status) -> list[list[Words]]:
    """What became of the frames; where they come from."""
    labels = {Outcome.LOST: "lost"}
    troubles = (Outcome.LOST, Outcome.FAILED, Outcome.CORRUPT)
    counts = [Words(f"captured {status.captured}")]
    for outcome in Outcome:
        count = status.outcomes.get(outcome, 0)
        colour = AMBER if count and outcome in troubles else WHITE if count else GRAY
        counts.append(Words(f"{labels.get(outcome, str(outcome))} {count}", colour))
    return [counts, [Words(status.source, GRAY)]]


def fidelity_lines(result: Result | None) -> list[list[Words]]:
    """How well the image agrees with what was measured, and what the network was told; nothing where that is not
    known."""
    if result is None or result.check is None:
        return []
    check = result.check
    words = [Words(f"fidelity {check.db:.1f} dB")]
    if check.before_db is not None:
        words.append(Words(f"before correction {check.before_db:.1f}"))
    if check.worst_db is not None:
        colour = AMBER if check.below_limit else WHITE
        words.append(Words(f"worst tile {check.worst_db:.1f}", colour))
    if check.limit_db is not None:
        below = check.below_limit
        limit = f"BELOW LIMIT {check.limit_db:.1f}" if below else f"limit {check.limit_db:.1f}"
        words.append(Words(limit, AMBER if below else GRAY))
    made = told_words(result.told) if result.told else []
    if result.frames is not None:
        made.append(Words(f"rests on {result.frames:.1f} frames", GRAY))
    return [words, made] if made else [words]


def told_words(told: Told) -> list[Words]:
    """The noise of the frame, and how much of the image is more than bicubic."""
    colour = AMBER if told.confidence < 1 else GRAY
    why = "too noisy" if told.levels.noise > NOISE_KNOWN else "no structure"
    fading = f" ({why})" if told.confidence < 1 else ""
    return [
        Words(f"noise {told.levels.noise:.1f}", colour),
        Words(f"network on {told.trusted:.0%} of the image{fading}", colour),
    ]


def text_size(width: int) -> int:
    """Height in pixels of a capital letter in a window ``width`` pixels wide."""
    return round(min(max(width / 80, 9), 26))


def _blank(shape: tuple[int, int]) -> Canvas:
    return np.full((*shape, 3), BACKGROUND, np.uint8)


def _place(image: tuple[int, ...], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where an image of shape ``image`` stands in a window of ``shape``: top, left, rows, columns."""
    ratio = min(shape[0] / image[0], shape[1] / image[1])
    rows, columns = max(1, round(image[0] * ratio)), max(1, round(image[1] * ratio))
    return (shape[0] - rows) // 2, (shape[1] - columns) // 2, rows, columns


def _fit(image: Image, shape: tuple[int, int], out: Canvas | None) -> Canvas:
    height, width = shape
    top, left, rows, columns = _place(image.shape, shape)
    method = cv2.INTER_AREA if rows < image.shape[0] else cv2.INTER_LINEAR
    gray = eight_bits(image)
    if (rows, columns) != image.shape:
        gray = cv2.resize(gray, (columns, rows), interpolation=method)  # type: ignore[assignment]
    canvas = out if out is not None and out.shape == (height, width, 3) else _blank(shape)
    if gray.shape != shape:
        canvas[:] = BACKGROUND
    cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR, canvas[top : top + rows, left : left + columns])
    return canvas


def _show_fidelity(canvas: Canvas, result: Result, overlay: bool) -> None:
    """The overlay, and corners around the tile that is below the limit."""
    check = result.check
    if check is None:
        return
    top, left, rows, columns = _place(result.image.shape, (canvas.shape[0], canvas.shape[1]))
    if overlay:
        heat.paint(canvas[top : top + rows, left : left + columns], result.lr, check)
    if check.below_limit and check.worst_at is not None:
        ratio = rows / result.lr.shape[0]
        y, x = (round(at * ratio) for at in check.worst_at)
        _corners(canvas, top + y, left + x, round(TILE * ratio))


def _corners(canvas: Canvas, top: int, left: int, side: int) -> None:
    """Four amber corners, dark behind, of a square of ``side`` pixels."""
    arm = max(3, side // 4)
    for y, inwards in ((top, 1), (top + side, -1)):
        for x, right in ((left, 1), (left + side, -1)):
            points = np.array([[x, y + inwards * arm], [x, y], [x + right * arm, y]], np.int32)
            for colour, thickness in (((0, 0, 0), 5), (AMBER, 2)):
                cv2.polylines(canvas, [points], False, colour, thickness, cv2.LINE_AA)


def _legend(canvas: Canvas, scale: heat.Scale, bottom: int, size: int) -> None:
    """What the overlay's colours mean, in a dark box above row ``bottom``."""
    small = max(9, round(0.8 * size))
    text = "differs from the measured image by, grey levels"
    ends = f"{scale.low:.1f}", f"{scale.high:.1f} and more"
    font, thickness = _scale(small), _thickness(small)
    width = min(canvas.shape[1] - 2 * size, _width(text, FONT, font, thickness) + 2 * small)
    height = round(5.2 * small)
    box = canvas[max(0, bottom - height) : bottom, :width]
    box[:] = cv2.convertScaleAbs(box, None, STRIP)
    room, begin = width - 2 * small, bottom - height
    shown = _cut(text, font, thickness, room)
    cv2.putText(canvas, shown, (small, begin + round(1.4 * small)), FONT, font, WHITE, thickness, cv2.LINE_AA)
    bar = canvas[begin + 2 * small : begin + 3 * small, small : small + room]
    bar[:] = heat.legend(room, small)[: bar.shape[0]]
    base = begin + round(4.5 * small)
    right = small + room - _width(ends[1], FONT, font, thickness)
    for end, x in zip(ends, (small, right), strict=True):
        cv2.putText(canvas, end, (x, base), FONT, font, WHITE, thickness, cv2.LINE_AA)


def _darken(canvas: Canvas, top: int, bottom: int) -> None:
    rows = canvas[max(top, 0) : max(bottom, 0)]
    if rows.size:
        rows[:] = cv2.convertScaleAbs(rows, None, STRIP)


def _strip(canvas: Canvas, lines: list[list[Words]], size: int, *, at_top: bool) -> int:
    """A dark strip with ``lines`` at the top or bottom of ``canvas``; its height."""
    pitch = round(2.1 * size)
    height = pitch * len(lines) + round(1.3 * size)
    begin = 0 if at_top else canvas.shape[0] - height
    _darken(canvas, begin, begin + height)
    for row, line in enumerate(lines):
        _line(canvas, line, begin + pitch * (row + 1), size)
    return height


def _line(canvas: Canvas, words: list[Words], baseline: int, size: int) -> None:
    """``words`` in one line; smaller where they do not fit, then cut."""
    room = canvas.shape[1] - 2 * size
    text = SEPARATOR.join(word.text for word in words)
    scale, thickness = _scale(size), _thickness(size)
    wide = _width(text, FONT, scale, thickness)
    if wide > room:
        scale *= max(room / wide, 0.75)
    left = size
    gap = _width(SEPARATOR + ".", FONT, scale, thickness) - _width(".", FONT, scale, thickness)
    for word in words:
        shown = _cut(word.text, scale, thickness, room + size - left)
        cv2.putText(canvas, shown, (left, baseline), FONT, scale, word.colour, thickness, cv2.LINE_AA)
        left += _width(shown, FONT, scale, thickness) + gap


def _cut(text: str, scale: float, thickness: int, room: int) -> str:
    """``text`` with its middle left out where it is wider than ``room`` pixels: both ends of a path tell."""
    shown = text = printable(text)
    kept = len(text)
    while kept > 0 and _width(shown, FONT, scale, thickness) > room:
        kept -= 1
        shown = text[: (kept + 1) // 2] + "..." + text[len(text) - kept // 2 :] if kept > 1 else ""
    return shown


def _banner(canvas: Canvas, alert: Alert, top: int, size: int) -> None:
    """``alert`` in the middle of the width, on a dark strip that begins at row ``top``."""
    small = max(9, round(0.55 * size))
    _darken(canvas, top, top + 2 * size + 2 * small + small // 2)
    rows = (
        (alert.text, BOLD, size, top + round(1.6 * size)),
        (alert.detail, FONT, small, top + 2 * size + 2 * small),
    )
    for text, font, height, baseline in rows:
        scale, thickness = _scale(height), _thickness(height) + (font == BOLD)
        room = canvas.shape[1] - 4 * small
        wide = _width(text, font, scale, thickness)
        scale *= min(1.0, room / max(wide, 1))
        left = (canvas.shape[1] - _width(text, font, scale, thickness)) // 2
        cv2.putText(canvas, text, (left, baseline), font, scale, alert.colour, thickness, cv2.LINE_AA)


def _scale(size: int) -> float:
    """OpenCV's font scale for capitals ``size`` pixels high."""
    return size / 21


def _thickness(size: int) -> int:
    return max(1, round(size / 14))


def _width(text: str, font: int, scale: float, thickness: int) -> int:
    return int(cv2.getTextSize(text, font, scale, thickness)[0][0])
