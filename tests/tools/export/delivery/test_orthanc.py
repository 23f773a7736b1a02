"""Into a real archive and back: Debian's Orthanc, by the DICOM protocol and by DICOMweb."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from certificates import make_certificate
from commands import Run, one_line
from orthanc_server import PASSWORD, SOCKETS, USER, Orthanc, running_orthanc

from clesr.pipeline.frame import Image

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(SOCKETS)]


@pytest.fixture
def login(tmp_path: Path) -> Path:
    path = tmp_path / "login.toml"
    path.write_text(f'user = "{USER}"\npassword = "{PASSWORD}"\n')
    return path


def fetch(orthanc: Orthanc) -> list[pydicom.Dataset]:
    files = [orthanc.get(f"/instances/{name}/file") for name in orthanc.instances()]
    return [pydicom.dcmread(BytesIO(data)) for data in files]


def check(orthanc: Orthanc, images: Sequence[Image], err: str) -> None:
    (found,) = fetch(orthanc)
    np.testing.assert_array_equal(found.pixel_array, images)
    assert f"{found.SOPInstanceUID}" in err
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
    assert found.SOPInstanceUID.startswith("2.25.")


def test_by_c_store_with_commitment_and_again(
    orthanc: Orthanc, recording: Path, images: list[Image], run: Run
) -> None:
    command = ("clesr", "export", recording, "--to", orthanc.node, "--commit-port", orthanc.commit)
    code, _, err = run(*command)
    assert code == 0, err
    assert f"stored study.dcm at {orthanc.node}: 5 frames, Multi-frame Grayscale Byte" in err
    assert f"{orthanc.node}: it commits itself to keep all 1 objects" in err
    check(orthanc, images, err)
    code, _, err = run(*command)
    assert code == 0, err
    assert f"{orthanc.node} holds study.dcm already" in err
    check(orthanc, images, err)


def test_commitment_by_tls_where_each_side_proves_itself(
    recording: Path, images: list[Image], tmp_path: Path, run: Run
) -> None:
    archive, scope, stranger = (
        make_certificate(tmp_path / f"{name}.pem") for name in ("archive", "scope", "stranger")
    )
    trusting = ("--tls", "--ca", archive.with_suffix(".crt"), "--retries", 0)
    with running_orthanc(tmp_path, (archive, scope.with_suffix(".crt"))) as orthanc:
        command = ("clesr", "export", recording, "--to", orthanc.node)
        for wrong in (
            ("--retries", 0),
            trusting,
            (*trusting, "--certificate", stranger),
            ("--tls", "--ca", stranger.with_suffix(".crt"), "--certificate", scope, "--retries", 0),
        ):
            code, _, err = run(*command, *wrong)
            assert (code, "0 of 1 objects are stored" in err) == (1, True), err
        assert orthanc.instances() == []
        code, _, err = run(*command, *trusting, "--certificate", scope, "--commit-port", orthanc.commit)
        assert code == 0, err
        assert f"{orthanc.node}: it commits itself to keep all 1 objects" in err
        assert "is not encrypted" not in err
        check(orthanc, images, err)


def test_by_stow_and_again_by_the_other_way(
    orthanc: Orthanc, recording: Path, images: list[Image], login: Path, run: Run
) -> None:
    code, out, err = run("clesr", "export", recording, "--to", orthanc.web, "--credentials", login)
    assert code == 0, err
    assert f"stored study.dcm at {orthanc.web}: 5 frames" in err
    check(orthanc, images, err)
    for more in ((orthanc.web, "--credentials", login), (orthanc.node,)):
        code, out, again = run("clesr", "export", recording, "--to", *more)
        assert code == 0, again
        assert " holds study.dcm already: " in again
        assert PASSWORD not in out + err + again
    check(orthanc, images, err)


@pytest.mark.parametrize("way", ["node", "web"])
def test_every_sop_class_by_both_ways(
    way: str, orthanc: Orthanc, recording: Path, images: list[Image], login: Path, run: Run
) -> None:
    more = ("--credentials", login) if way == "web" else ()
    for sop_class, objects in (("video-endoscopic", 1), ("vl-endoscopic", 5)):
        before = set(orthanc.instances())
        code, _, err = run(
            "clesr", "export", recording, "--to", getattr(orthanc, way), *more, "--sop-class", sop_class, "--region",
            "colon",
        )  # fmt: skip
        assert code == 0, err
        assert err.count("stored study.") == objects
        new = [orthanc.get(f"/instances/{name}/file") for name in set(orthanc.instances()) - before]
        found = sorted((pydicom.dcmread(BytesIO(data)) for data in new), key=lambda each: each.InstanceNumber)
        assert len(found) == objects
        assert all(str(each.SOPInstanceUID) in err for each in found)
        if objects == 1:
            assert found[0].file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.102"
            assert len(found[0].PixelData) > 500
        else:
            np.testing.assert_array_equal([each.pixel_array for each in found], images)


def test_what_the_archive_refuses_is_one_line(
    orthanc: Orthanc, recording: Path, login: Path, run: Run
) -> None:
    login.write_text(f'user = "{USER}"\npassword = "wrong-{PASSWORD}"\n')
    cases = (
        ((orthanc.web, "--credentials", login), "does not let us in (HTTP 401"),
        ((orthanc.web,), "does not let us in (HTTP 401"),
        ((orthanc.web.replace("://", f"://{USER}:wrong{PASSWORD}@"),), "does not let us in (HTTP 401"),
        (
            (orthanc.node, "--calling-aet", "STRANGER"),
            "if it always does, register STRANGER (--calling-aet) there",
        ),
        ((orthanc.node.replace("ARCHIVE", "OTHER"),), "check the title OTHER"),
    )
    for more, words in cases:
        code, out, err = run("clesr", "export", recording, "--to", *more, "--retries", 0)
        assert code == 1
        assert words in one_line(err)
        assert "0 of 1 objects are stored" in err
        assert PASSWORD not in out + err
    assert orthanc.instances() == []
    assert json.loads(orthanc.get("/system"))["DicomAet"] == "ARCHIVE"
