"""Where the browser's server listens, and whom it lets in."""

from __future__ import annotations

from pathlib import Path

import pytest

from clesr.engines.common.addresses import host_and_port
from clesr.engines.common.errors import UsageError
from clesr.pipeline.sinks.browser.door import FORM, TOKEN_VARIABLE, Door, given_token

TOKEN = "a token of the user's own"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:8765", ("127.0.0.1", 8765)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:80", ("::1", 80)),
        ("probe.example:65535", ("probe.example", 65535)),
    ],
)
def test_an_address_has_host_and_port(text: str, place: tuple[str, int]) -> None:
    assert host_and_port(text, "--listen", FORM) == place


@pytest.mark.parametrize(
    "text", ["", "8765", ":8765", "127.0.0.1", "a:b", "::1:80", "a:65536", "a:٣", "a:-1", "[]:1"]
)
def test_what_is_no_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:8765") as raised:
        Door(listen=text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("listen", [None, "127.0.0.1:1", "localhost:1", "[::1]:1", "127.9.9.9:1"])
def test_this_machine_alone_needs_no_token(listen: str | None) -> None:
    assert Door(listen=listen).token is None


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.0.2.7:1", "probe.example:1"])
def test_any_other_address_gets_a_token_that_nobody_can_guess(listen: str) -> None:
    one, other = Door(listen=listen), Door(listen=listen)
    assert one.token is not None
    assert len(one.token) >= 40
    assert one.token != other.token
    assert one.token in one.url(1)
    assert one.token not in repr(one)


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert given_token(str(file), {}) == TOKEN
    assert given_token(None, {TOKEN_VARIABLE: TOKEN}) == TOKEN
    assert given_token(str(file), {TOKEN_VARIABLE: "the one of the environment"}) == TOKEN
    assert given_token(None, {}) is None


@pytest.mark.parametrize(
    "content", ["", "short", "x" * 1025, "a token\nof two lines", "ein Schlüssel mit Umlaut"]
)
def test_a_token_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(UsageError, match=str(file)) as raised:
        given_token(str(file), {})
    assert content == "" or content not in str(raised.value)


def test_a_token_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        given_token(str(tmp_path / "none"), {})


def test_a_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(UsageError, match="--tls-certificate"):
        Door(key="key.pem")


def test_files_that_are_no_certificate_are_told(tmp_path: Path) -> None:
    file = tmp_path / "certificate.pem"
    file.write_text("none")
    with pytest.raises(UsageError, match=str(file)):
        Door(certificate=str(file)).tls()


def visit(door: Door, *, asks: bool = True, **headers: str) -> int | None:
    """The status with which a request is refused; None where it is let in."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    refused = door.refusal({"host": "127.0.0.1:8765"} | named, 8765, asks=asks)
    return refused and refused[0]


def test_without_a_token_only_names_of_this_machine_are_let_in() -> None:
    door = Door()
    assert visit(door) is None
    assert visit(door, host="localhost:9000") is None  # through a tunnel
    assert visit(door, host="[::1]:8765") is None
    for host in (
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "192.0.2.7:8765",
        "",
        "[::1",
        "localhost.evil",
    ):
        assert visit(door, host=host) == 421, host
        assert visit(door, host=host, asks=False) == 421, host


def test_other_sites_may_ask_nothing() -> None:
    door = Door()
    assert visit(door, origin="http://127.0.0.1:8765") is None
    for origin in ("http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1:9999", "null", ""):
        assert visit(door, origin=origin) == 403, origin
    assert visit(door, sec_fetch_site="cross-site") == 403
    assert visit(door, sec_fetch_site="same-site") == 403
    assert visit(door, sec_fetch_site="cross-site", asks=False) is None  # a link to the page


def test_a_cookie_lets_in_and_nothing_else_does() -> None:
    door = Door(listen="0.0.0.0:8765", token=TOKEN)
    cookie = door.cookie(8765).partition(";")[0]
    assert visit(door, cookie=cookie) is None
    assert visit(door, cookie=f"other=1; {cookie}", host="probe.example") is None
    for others in ('a b=1; {}; c="', "{}; x[0]=1; , =", 'json={{"a":1}}; {}', "\xff=é;{};;"):
        assert visit(door, cookie=others.format(cookie)) is None, (
            "whatever other programs leave in the browser"
        )
    name, _, value = cookie.partition("=")
    wrong = (
        "",
        value,
        f"{name}=",
        f"{name}={value[:-1]}",
        f"{name}={value}0",
        f"{name}={TOKEN}",
        f"x{cookie}",
        "\0;=",
    )
    for given in wrong:
        assert visit(door, cookie=given) == 401, given
    assert visit(Door(listen="0.0.0.0:8765", token=TOKEN[::-1]), cookie=cookie) == 401


def test_the_cookie_is_for_the_server_alone_and_tells_no_token() -> None:
    plain = Door(listen="0.0.0.0:1", token=TOKEN).cookie(8765)
    assert {"HttpOnly", "SameSite=Strict"} <= set(plain.split("; "))
    assert TOKEN not in plain
    assert "Secure" not in plain
    assert "Secure" in Door(listen="0.0.0.0:1", token=TOKEN, certificate="c.pem").cookie(1).split("; ")


def test_a_token_opens_only_as_a_whole() -> None:
    door = Door(token=TOKEN)
    assert door.opens(TOKEN)
    assert not any(map(door.opens, ("", TOKEN[:-1], TOKEN + " ", "\udc80")))
    assert not Door().opens("")
