"""The image of the self-test: the same everywhere and always, with what an engine may get wrong in it."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from clesr.engines.selftest import probe_image


@pytest.mark.slow
def test_it_is_the_same_in_every_process() -> None:
    """A fault that it shows once it shows again."""
    script = (
        "import hashlib\nfrom clesr.engines.selftest import probe_image\n"
        "print(hashlib.sha256(probe_image(48, 64).tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100
    )
    assert run.stdout.strip() == hashlib.sha256(probe_image(48, 64).tobytes()).hexdigest()


def test_it_has_shades_an_edge_noise_black_and_white() -> None:
    image = probe_image(96, 128)
    assert image.shape == (96, 128)
    assert image.dtype == np.uint8
    assert 0.01 < (image == 0).mean() < 0.1
    assert 0.01 < (image == 255).mean() < 0.1
    rows, columns = np.mgrid[:96, :128]
    beyond = rows + columns > 112
    assert image[beyond].mean() - image[~beyond].mean() > 25, "the edge along the diagonal"
    inner = image[(image > 0) & (image < 255)].astype(float)
    assert inner.std() > 30, "shades"
    assert image.mean(axis=1).std() > 5
