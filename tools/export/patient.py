"""Who was examined: only from a file that the user gives."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.engines.common.parsing import parse_json, parse_toml, read_bounded, unreadable

LARGEST = 1 << 16  # bytes of a file
SEXES = ("M", "F", "O")
# Regions of the body that endomicroscopes look at; pydicom names their SNOMED CT codes BileDuct, Bladder and so on.
REGIONS = (
    "bile-duct", "bladder", "brain", "cervix", "colon", "duodenum", "esophagus", "ileum", "larynx", "oral-cavity",
    "pancreas", "pharynx", "rectum", "stomach",
)  # fmt: skip
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_FORM = "a table of texts with name and id, and as needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What a DICOM object says of patient and study.

    ``name`` is FAMILY^GIVEN, ``birth_date`` YYYY-MM-DD, ``sex`` M, F or O.

    Raises UsageError for what DICOM (PS3.5, 6.2) does not allow.
    """

    name: str
    id: str
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""
    referring_physician: str = ""
    study_id: str = ""
    study_description: str = ""
    study_instance_uid: str = ""
    institution: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            longest = 16 if field.name in ("accession_number", "study_id") else 64
            if not isinstance(value, str) or "\\" in value or not value.isprintable() or len(value) > longest:
                raise UsageError(
                    f"patient: {field.name} {repr(value)[:80]} is not a text of at most {longest} characters in one "
                    "line without backslash"
                )
        if not self.name.strip() or not self.id.strip():
            raise UsageError(
                "patient: name and id are needed; without them leave --patient out, which is anonymous"
            )
        if self.sex not in ("", *SEXES):
            raise UsageError(f"patient: sex {self.sex!r} is not one of {', '.join(SEXES)}")
        if self.birth_date and not _is_date(self.birth_date):
            raise UsageError(f"patient: birth_date {self.birth_date!r} is not a date such as 1960-12-31")
        if self.study_instance_uid and not _UID.fullmatch(self.study_instance_uid):
            raise UsageError(f"patient: study_instance_uid {self.study_instance_uid!r} is not a DICOM UID")


def read_patient(path: Path) -> Patient:
    """The patient in a TOML or JSON file: one table, keys as in ``Patient``. Raises UsageError."""
    try:
        parse = parse_json if path.suffix.lower() == ".json" else parse_toml
        table = parse(read_bounded(path, LARGEST), dict[str, Any])
    except (OSError, ValueError) as error:
        raise UsageError(f"the patient file {path} {unreadable(error)}; give TOML or JSON") from error
    known = [field.name for field in fields(Patient)]
    if not {"name", "id"} <= set(table):
        raise UsageError(f"the patient file {path} is not {_FORM} {', '.join(known[2:])}")
    for key in table:
        if key not in known:
            raise UsageError(f"the patient file {path} knows no {key[:80]!r}; it knows {', '.join(known)}")
    # TOML has dates of its own.
    texts = {key: value.isoformat() if isinstance(value, date) else value for key, value in table.items()}
    return Patient(**texts)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
