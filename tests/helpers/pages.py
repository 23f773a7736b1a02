"""What tests of the browser's page have in common: a stream that goes on, and what is read from its canvas."""

from __future__ import annotations

import threading
from typing import Any

from browser_view import ACTIONS, Shown, numbered, result_of, status
from waits import joined

from clesr.pipeline.controls import Action, Controls

READ = """(() => {
  const canvas = document.querySelector('.stage .picture');
  const side = Math.min(canvas.width, canvas.height), part = side / 4;
  const [x, y] = [(canvas.width - side) / 2, (canvas.height - side) / 2];
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let number = 0;
  for (let bit = 0; bit < 16; bit += 1) {
    const [column, row] = [Math.floor(x + (bit % 4 + .5) * part), Math.floor(y + (Math.floor(bit / 4) + .5) * part)];
    if (pixels.data[4 * (row * canvas.width + column)] > 127) number |= 1 << bit;
  }
  return number;
})()"""
LIVE = "document.querySelector('.stage').dataset.state === 'live'"


class Running:
    """A stream whose frames come by themselves, so that it stays live."""

    def __init__(self, shown: Shown, size: int = 256) -> None:
        self.shown, self.number, self.held = shown, 0, False
        self.status: dict[str, Any] = {}
        self._size, self._over = size, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        joined(self._thread)

    def _run(self) -> None:
        while not self._over.wait(0.04):
            if not self.held:
                self.number += 1
                self.shown.sink.write(result_of(numbered(self.number % 65536, self._size), self.number))
            self.shown.sink.refresh(status(**self.status))

    def add(self, *actions: Action[Any]) -> None:
        """Let the page do ``actions``, too."""
        subject = self.shown.subject
        subject.controls = Controls(subject, (*ACTIONS, *actions))
        self.shown.sink.controls = subject.controls

    def asked(self, name: str) -> list[dict[str, Any]]:
        """The arguments of each call of the action ``name``."""
        return [arguments for called, arguments in self.shown.subject.calls if called == name]
