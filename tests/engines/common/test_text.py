"""Nothing from outside steers a terminal, and no secret of an address is shown."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clesr.engines.common.errors import ClesrError, SourceError, UsageError, printable
from clesr.engines.common.text import conceal, hiding_secrets, presentable, shown, without_secrets
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import open_source

MARK = "Hunter2"  # in every secret, so that it can be looked for
AROUND = st.text(
    st.sampled_from("@/:%?#&=; +*'\"\\\n\t\x1b.äß[]|") | st.characters(codec="utf-8"), max_size=6
)
SECRET = st.builds(lambda before, after: before + MARK + after, AROUND, AROUND)
SCHEME = st.sampled_from(
    ["rtsp", "rtsps", "http", "HTTPS", "srt", "rtmp", "tcp", "zmq+tcp", "igtl", "gopher", "ftp"]
)
NAME = st.sampled_from(["password", "token", "pw", "sig", "curve", "channel", "passphrase", ""])
PLACES = [
    "{scheme}://joe:{secret}@camera:554/live",
    "{scheme}://{secret}@camera/live?channel=1",
    "{scheme}://{secret}:x@camera/live",
    "{scheme}://camera/live?{name}={secret}",
    "{scheme}://camera/live?channel=1&{name}={secret}&x=2",
    "{scheme}://camera?{secret}",
    "{scheme}://camera/live#{name}={secret}",
    "{scheme}://joe:{secret}@camera/live?{name}={secret}",
    "{scheme}://joe:{secret}@camera",
    "{scheme}:joe:{secret}@camera/live",
    " {scheme}://joe:{secret}@camera/live",
    "joe:{secret}@camera/live",
]
LIBRARY = "connection to {address} failed: [Errno 111] Connection refused: '{address}'"


@settings(deadline=None)
@given(st.sampled_from(PLACES), SCHEME, NAME, SECRET, st.booleans())
def test_no_secret_of_an_address_is_shown_or_kept(
    place: str, scheme: str, name: str, secret: str, encoded: bool
) -> None:
    word = quote(secret) if encoded else secret
    address = place.format(scheme=scheme, name=name, secret=word)
    assert MARK not in shown(address)
    assert MARK not in SourceInfo(address, live=True).address
    said = LIBRARY.format(address=address)
    assert MARK not in without_secrets(said, address)
    begun = address.index(MARK) + len(MARK) - 1  # most of it
    assert MARK[:-1] not in without_secrets(f"cannot open {address[:begun]}\u2026", address)
    for repeated in (secret, word, repr(address), address.replace("//", "/")):
        assert MARK not in without_secrets(f"cannot open {repeated}", address)
    with pytest.raises(SourceError) as raised, hiding_secrets(address):
        raise SourceError(said) from OSError(said)
    assert MARK not in str(raised.value)
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None


def test_what_was_concealed_is_in_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clesr.engines.common.text._concealed", {})
    conceal("--source=left=rtsp://joe:Hunter2@camera/x", "recording.mkv", "demo:?size=64")
    assert presentable("http:/joe:Hunter2@camera\n") == r"http:/...@camera\n"
    assert presentable("recording.mkv demo:?size=64") == "recording.mkv demo:?size=64"


@settings(deadline=None)
@given(SCHEME, st.sampled_from(["?", "#", ""]), SECRET)
def test_nor_in_errors_of_the_product(scheme: str, mark: str, secret: str) -> None:
    """Addresses that no source takes: nothing is opened."""
    address = f"un{scheme}://joe:{secret}{mark}@camera/live?password={secret}"
    with pytest.raises(ClesrError) as raised:
        open_source(address)
    assert MARK not in str(raised.value)


def test_errors_keep_their_class_and_those_without_a_secret_their_cause() -> None:
    with (
        pytest.raises(UsageError, match="rtsp://camera/live is wrong"),
        hiding_secrets("rtsp://a:bcd@camera/live"),
    ):
        raise UsageError("rtsp://a:bcd@camera/live is wrong")
    with pytest.raises(ClesrError, match=r"^\.\.\. is wrong"), hiding_secrets("rtsp://a:bcd@camera/live"):
        raise ValueError("a:bcd is wrong")
    cause = OSError("broken")
    with pytest.raises(SourceError) as raised, hiding_secrets("rtsp://a:bcd@camera/live"):
        raise SourceError("no answer") from cause
    assert raised.value.__cause__ is cause


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("rtsp://10.0.0.5/live", "rtsp://10.0.0.5/live"),
        ("rtsp://joe:x@10.0.0.5:554/live", "rtsp://10.0.0.5:554/live"),
        ("http://host/a.mkv?x=1", "http://host/a.mkv?..."),
        ("rtsp://host/x?at=a@b", "rtsp://..."),
        ("demo:?size=64&fps=12", "demo:?size=64&fps=12"),
        ("left=demo:?size=64&fps=12", "left=demo:?size=64&fps=12"),
        ("left=/dev/video0?size=64x64&format=GREY", "left=/dev/video0?size=64x64&format=GREY"),
        ("zmq+tcp://host:5555?stream=left&topic=a", "zmq+tcp://host:5555?stream=left&topic=a"),
        ("zmq+tcp://host:5555?password=a", "zmq+tcp://host:5555?password=..."),
        ("/dev/video0?format=GREY&gain=4", "/dev/video0?format=GREY&gain=4"),
        ("/dev/v4l/by-path/pci-0000:00:14.0-usb?size=2x2", "/dev/v4l/by-path/pci-0000:00:14.0-usb?size=2x2"),
        ("file:/data/a@b.mkv", "/data/a@b.mkv"),
        ("recordings/12:30 left.mkv", "recordings/12:30 left.mkv"),
    ],
)
def test_what_is_no_secret_is_shown(address: str, expected: str) -> None:
    assert shown(address) == expected
    assert SourceInfo(address, live=False).address == expected


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_printable_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    said = printable(text)
    assert all(unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029" for c in said)
    said.encode()
    if text.isprintable():
        assert said == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
        ("a\nclesr: error: b", r"a\nclesr: error: b"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udcff", r"\udcff"),
        ("Ärzte 5 µm", "Ärzte 5 µm"),
    ],
)
def test_what_is_not_printable_is_spelled_out(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_a_short_secret_is_hidden_as_a_word_and_not_inside_others() -> None:
    address = "rtsp://joe:127@camera/live?token=abc"
    assert without_secrets("user joe, password 127; joe:127@camera, token=abc", address) == (
        "user ..., password ...; ...@camera, ..."
    )
    digest = "fb5426eb60e0699c9afb206385e73b62da19834f494576981d1c03311ae96127"
    assert without_secrets(f"digest {digest}", address) == f"digest {digest}"
