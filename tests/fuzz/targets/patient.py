"""The file that says who was examined, and the DICOM object with what it says."""

from __future__ import annotations

import json
from dataclasses import asdict
from random import Random

import numpy as np
import pydicom

from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.dicom import DicomExporter
from clesr.tools.export.files import all_or_none
from clesr.tools.export.patient import Patient, read_patient
from fuzz.mutations import DEEP, WORDS, flip, reword
from fuzz.target import Target

PATIENT = Patient(
    name="Doe^Jane",
    id="17",
    birth_date="1960-12-31",
    sex="F",
    accession_number="A1",
    referring_physician="Roe^Richard",
    study_id="S",
    study_description="colon",
    study_instance_uid="1.2.3",
    institution="Here",
)
TEXTS = tuple(
    json.dumps(text).encode()
    for text in ("é中", "\u0301", "\u202e", "\x1b", "a\\b", " ", "a^b=c", "-0.1", "2000-01-01")
)


class PatientFile(Target):
    """A first byte J for JSON or T for TOML, then the file."""

    def seeds(self) -> list[bytes]:
        values = asdict(PATIENT)
        toml = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        files = [b"J" + json.dumps(values).encode(), b"T" + toml.encode()]
        return files + [kind + text for text in DEEP for kind in (b"J", b"Ta = ")]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return data[:1] + flip(rng, data[1:])
        return data[:1] + reword(rng, data[1:], TEXTS if rng.random() < 0.5 else WORDS)

    def run(self, data: bytes) -> None:
        path = self.folder / ("a.json" if data[:1] == b"J" else "a.toml")
        path.write_bytes(data[1:])
        patient = read_patient(path)
        made = self.folder / "a.dcm"
        still = Still(0, 0, np.zeros((4, 4), np.uint8))
        clip = Clip(kind="raw", stills=[still], total=1, fps=None, started="2024-01-01T10:00:00+01:00")
        try:
            with all_or_none() as files:
                DicomExporter(patient=patient).write(clip, made, files)
            found = pydicom.dcmread(made)
            assert str(found.PatientID) == patient.id.strip(), "it says another patient"
        finally:
            made.unlink(missing_ok=True)
