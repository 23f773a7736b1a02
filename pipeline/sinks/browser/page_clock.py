"""How the clock of a page stands to ours."""

from __future__ import annotations

SPAN_NS = (
    10_000_000_000  # for which a bound is taken, and as long again: clocks drift by 0.1 ms a second at most
)


class PageClock:
    """Our times in the time of a page, from the messages in which it says its own.

    Such a message was sent before it came. So our time of its coming, less the page's in it, is never less than by how
    much our clock is ahead; the least of late counts. An age by it is never too small, and too large by no more than
    the quickest of these messages took.
    """

    def __init__(self) -> None:
        self._begun_ns = 0
        self._ahead_ms: float | None = None  # since then
        self._before_ms: float | None = None  # in the span before

    def hear(self, page_ms: float, now_ns: int) -> None:
        """The page has said that its clock is at ``page_ms``, in milliseconds; that has come at ``now_ns``."""
        ahead = now_ns / 1e6 - page_ms
        if self._ahead_ms is None or now_ns - self._begun_ns >= SPAN_NS:
            self._begun_ns, self._before_ms, self._ahead_ms = now_ns, self._ahead_ms, ahead
        self._ahead_ms = min(self._ahead_ms, ahead)

    @property
    def known(self) -> bool:
        """Whether the page has said its time."""
        return self._ahead_ms is not None

    def page_ms(self, time_ns: int) -> float:
        """Our ``time_ns`` by the page's clock, in milliseconds: then, or a little earlier."""
        bounds = [bound for bound in (self._ahead_ms, self._before_ms) if bound is not None]
        return time_ns / 1e6 - min(bounds)
