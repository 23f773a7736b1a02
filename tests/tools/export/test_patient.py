from __future__ import annotations

import json
from pathlib import Path

import pytest

from clesr.engines.common.errors import UsageError
from clesr.tools.export.patient import Patient, read_patient


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('name = "Doe^Jane"\nid = "17"\nbirth_date = 1960-12-31\nsex = "F"\n')
    table = {"name": "Doe^Jane", "id": "17", "birth_date": "1960-12-31", "sex": "F"}
    (tmp_path / "p.json").write_text(json.dumps(table))
    expected = Patient(name="Doe^Jane", id="17", birth_date="1960-12-31", sex="F")
    assert read_patient(tmp_path / "p.toml") == read_patient(tmp_path / "p.json") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a table of texts with name and id"),
        ("name = ", "cannot be read"),
        ('name = "A"', "is not a table of texts with name and id"),
        ('name = "A"\nid = "1"\nheight = "180"', "knows no 'height'; it knows name, id, birth_date"),
        ('name = " "\nid = "1"', "name and id are needed"),
        ('name = "A"\nid = 17', "id 17 is not a text"),
        ('name = "A\\\\B"\nid = "1"', "without backslash"),
        ('name = "A\\nB"\nid = "1"', "in one line"),
        (f'name = "{"A" * 65}"\nid = "1"', "at most 64 characters"),
        ('name = "A"\nid = "1"\naccession_number = "12345678901234567"', "at most 16 characters"),
        ('name = "A"\nid = "1"\nsex = "female"', "sex 'female' is not one of M, F, O"),
        ('name = "A"\nid = "1"\nbirth_date = "31.12.1960"', "is not a date such as 1960-12-31"),
        ('name = "A"\nid = "1"\nstudy_instance_uid = "1.02"', "is not a DICOM UID"),
    ],
)
def test_what_dicom_does_not_allow_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        read_patient(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent.toml cannot be read"):
        read_patient(tmp_path / "absent.toml")


def test_the_longest_texts_and_the_largest_file_are_taken(tmp_path: Path) -> None:
    patient = Patient(name="n" * 64, id="1", accession_number="a" * 16, study_id="s" * 16)
    assert len(patient.name) == 64
    text = 'name = "Doe^Jane"\nid = "7"\n#'
    (tmp_path / "p.toml").write_text(text + "x" * ((1 << 16) - len(text)))
    assert read_patient(tmp_path / "p.toml").id == "7"
    (tmp_path / "p.toml").write_text(text + "x" * ((1 << 16) + 1 - len(text)))
    with pytest.raises(UsageError, match="has 65537 bytes, at most 65536 are allowed"):
        read_patient(tmp_path / "p.toml")


def test_what_is_no_table_of_a_patient_says_what_one_has(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('name = "Doe^Jane"\n')
    with pytest.raises(UsageError, match="with name and id, and as needed birth_date, sex, accession_number"):
        read_patient(tmp_path / "p.toml")
