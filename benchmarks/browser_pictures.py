"""Takes the pictures of docs/browser.md: the real program and a real Chromium.

python benchmarks/browser_pictures.py [--output docs]
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from common import ROOT

sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from chromium import Page, chromium

FPS = 12
LIVE = "document.querySelector('.stage')?.dataset.state === 'live' && document.querySelector('#do-quit')"
ENDS_S = 30.0


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program in ``folder``, and its address."""
    command = [
        sys.executable, "-c", "from clesr.tools.cli import live_main; live_main()", "--model", "fast",
        "--display", "browser", "--listen", "127.0.0.1:0", "--pixel-size", "2.4", *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = (re.search(r"open in a browser: (\S+)", line) for line in process.stderr)
        yield process, next(match[1] for match in found if match)
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=ENDS_S)


def choose(page: Page, action: str, value: str) -> None:
    page.run(
        f"(() => {{ const e = document.querySelector('select#do-{action}, select#do-{action}-value'); "
        f"e.value = '{value}'; e.onchange(); }})()"
    )


def pause(page: Page, seconds: float) -> None:
    page.run(f"new Promise((done) => setTimeout(done, {1000 * seconds}))")


@click.command()
@click.option("--output", default="docs", show_default=True, type=click.Path(path_type=Path, file_okay=False))
def main(output: Path) -> None:
    """Take the pictures."""
    with tempfile.TemporaryDirectory() as name, chromium() as tab:
        page = tab()
        with running(
            Path(name), "--source", f"demo:?fps={FPS}&size=256&seed=1", "--record", "examination"
        ) as run:
            process, url = run
            page.size(1280, 800)
            page.open(url)
            page.wait(LIVE, 120)
            choose(page, "mode", "wipe")
            page.press("b")
            page.wait("document.querySelector('#figures').textContent.includes('wipe')")
            pause(page, 8)
            page.run("document.querySelector('#do-acknowledge').click()")  # where a slow start was an alarm
            page.wait("document.querySelector('.alarm').hidden")
            pause(page, 7)
            page.screenshot(output / "browser.png")
            page.size(390, 844, touch=True)
            choose(page, "mode", "sr")
            pause(page, 7)
            page.run("scrollTo(0, 0)")
            page.screenshot(output / "browser-phone.png")
            page.size(1280, 800)
            process.send_signal(signal.SIGSTOP)  # as if the network were cut
            page.wait("document.querySelector('.stage').innerText.includes('NO CONNECTION')")
            pause(page, 12)
            page.screenshot(output / "browser-no-connection.png")
    click.echo(f"wrote browser.png, browser-phone.png and browser-no-connection.png into {output}")


if __name__ == "__main__":
    main()
