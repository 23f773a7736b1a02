"""The archive that ``--to`` names."""

from __future__ import annotations

import logging
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from clesr.engines.common.addresses import check_address, is_loopback
from clesr.engines.common.errors import WHY, MissingDependencyError, UsageError, told_as
from clesr.engines.common.files import keep
from clesr.engines.common.parsing import one_line
from clesr.engines.common.text import shown
from clesr.tools.common.options import read_toml
from clesr.tools.export.delivery.options import ArchiveOptions

if TYPE_CHECKING:
    from clesr.tools.export.delivery.archive import Archive
    from clesr.tools.export.delivery.stow import Login

log = logging.getLogger(__name__)
FORM = "dicom://AET@HOST:PORT or https://HOST/.../studies"
PORTS = {"dicom": 104, "https": 443, "http": 80}
SCHEMES = {  # the options that each kind of archive has of its own
    "calling_aet": ("dicom",),
    "tls": ("dicom",),
    "commit_port": ("dicom",),
    "ca": ("dicom", "https"),
    "certificate": ("dicom", "https"),
    "credentials": ("https", "http"),
}
_TITLE = re.compile(r"(?=.*\S)[\x20-\x5b\x5d-\x7e]{1,16}")  # PS3.5, 6.2, AE


@dataclass(frozen=True, slots=True)
class Place:
    """An archive's address in parts."""

    scheme: str
    host: str
    port: int
    path: str
    user: str
    password: str


def open_archive(options: ArchiveOptions) -> Archive:
    """The archive at ``options.to``, to which nothing is said yet. Raises UsageError for what cannot work,
    MissingDependencyError where the DICOM libraries are missing."""
    place = parse_place(options.to or "")
    _check_options(place, options)
    if not (options.tls or place.scheme == "https" or is_loopback(place.host)):
        advice = "--tls encrypts" if place.scheme == "dicom" else "https:// encrypts"
        log.warning(
            f"{shown(options.to or '')} is not encrypted: whoever is on the network may read images and names; {advice}"
        )
    with told_as(
        MissingDependencyError,
        f"an archive needs pydicom and pynetdicom ({WHY}); run: pip install 'clesr[dicom]'",
        ImportError,
    ):
        return _dicom_node(place, options) if place.scheme == "dicom" else _web_service(place, options)


def parse_place(address: str) -> Place:
    """The parts of ``address``. Raises UsageError."""
    check_address(address)
    said = one_line(shown(address))
    try:
        parts = urlsplit(address)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), 0
    host = parts.hostname or ""
    if parts.scheme not in PORTS or not host or parts.query or parts.fragment:
        raise UsageError(f"--to {said} is no archive; write it as {FORM}")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "dicom":
        if not _TITLE.fullmatch(user) or password or parts.path.strip("/"):
            raise UsageError(f"--to {said}: give the archive's AE title, 1 to 16 characters, as {FORM}")
    elif not re.search(r"/studies/?$", parts.path):
        raise UsageError(f"--to {said} does not end in /studies, where DICOMweb stores; write it as {FORM}")
    return Place(parts.scheme, host, port, parts.path.rstrip("/"), user, password)


def _check_options(place: Place, options: ArchiveOptions) -> None:
    for name, schemes in SCHEMES.items():
        default = ArchiveOptions.__dataclass_fields__[name].default
        if getattr(options, name) != default and place.scheme not in schemes:
            kinds = " and ".join(f"{scheme}://" for scheme in schemes)
            raise UsageError(f"--{name.replace('_', '-')} is for {kinds}, not for {place.scheme}://")
    if not _TITLE.fullmatch(options.calling_aet):
        raise UsageError(
            f"--calling-aet {options.calling_aet!r} is no AE title of 1 to 16 characters; CLESR is one"
        )
    if (options.ca or options.certificate) and place.scheme == "dicom" and not options.tls:
        raise UsageError("--ca and --certificate are for encrypted connections; give --tls too")
    secret = options.credentials or (place.scheme != "dicom" and place.user)
    if secret and place.scheme == "http" and not is_loopback(place.host):
        raise UsageError("credentials are not sent without encryption; give an https:// address")


def _dicom_node(place: Place, options: ArchiveOptions) -> Archive:
    from clesr.tools.export.delivery.dimse import DicomNode

    commit = options.commit_port is not None and options.tls
    return DicomNode(
        place.user,
        place.host,
        place.port,
        calling=options.calling_aet,
        tls=_client_tls(options) if options.tls else None,
        commit_port=options.commit_port,
        commit_tls=_server_tls(options) if commit else None,
    )


def _web_service(place: Place, options: ArchiveOptions) -> Archive:
    from clesr.tools.export.delivery.stow import StowService

    login = _login(place, options)
    tls = _client_tls(options) if place.scheme == "https" else None
    name = one_line(shown(options.to or ""))
    return StowService(name, place.host, place.port, place.path, login=login, tls=tls)


def _login(place: Place, options: ArchiveOptions) -> Login:
    from clesr.tools.export.delivery.stow import Login

    if options.credentials is None:
        return Login(place.user, place.password)
    keep(options.credentials)
    table = read_toml(Path(options.credentials), "the credentials file")
    if set(table) not in ({"user", "password"}, {"token"}) or not all(
        isinstance(value, str) and value.isascii() and value.isprintable() and value
        for value in table.values()
    ):
        raise UsageError(
            f"the credentials file {options.credentials} is not a table of user and password, or of token"
        )
    return Login(**table)


def _client_tls(options: ArchiveOptions) -> ssl.SSLContext:
    """Trusts the system's authorities, or those of --ca alone, and shows --certificate where there is one."""
    with told_as(UsageError, f"--ca {options.ca} is no readable file of certificates ({WHY})"):
        context = ssl.create_default_context(cafile=options.ca)
    return _showing(context, options)


def _server_tls(options: ArchiveOptions) -> ssl.SSLContext:
    if options.certificate is None:
        raise UsageError("--commit-port with --tls needs --certificate, a PEM file with certificate and key")
    return _showing(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.ca), options)


def _showing(context: ssl.SSLContext, options: ArchiveOptions) -> ssl.SSLContext:
    if options.certificate is not None:
        keep(options.certificate)
        with told_as(
            UsageError,
            f"--certificate {options.certificate} is no readable PEM file with certificate and key ({WHY})",
        ):
            context.load_cert_chain(options.certificate)
    return context
