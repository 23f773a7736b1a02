"""The options of `clesr export` about archives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from clesr.pipeline.settings import setting

_archive = partial(setting, panel="Archive")


@dataclass(frozen=True, kw_only=True)
class ArchiveOptions:
    """Where DICOM objects are stored, and how it is reached."""

    to: str | None = _archive(
        None, "Store as DICOM in an archive: dicom://AET@HOST:PORT, or https://HOST/.../studies.", "ADDRESS"
    )
    calling_aet: str = _archive("CLESR", "dicom://: our own AE title.", "AET")
    tls: bool = _archive(False, "dicom://: encrypt, and check the archive's certificate.")
    ca: str | None = _archive(
        None, "Trust these certificate authorities (PEM) in place of the system's.", "FILE"
    )
    certificate: str | None = _archive(
        None, "Show this certificate, with its key, to the archive (PEM).", "FILE"
    )
    credentials: str | None = _archive(
        None, "https://: TOML file with user and password, or with token.", "FILE"
    )
    commit_port: int | None = _archive(
        None,
        "dicom://: listen here for the archive's storage commitment, where it calls back.",
        "PORT",
        minimum=1,
        maximum=65535,
    )
    retries: int = _archive(
        5, "Try so many times more, after waits of 1, 2, 4 s and so on, where the archive does not answer.", "N",
        minimum=0, maximum=1000,
    )  # fmt: skip
