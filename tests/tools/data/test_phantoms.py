from __future__ import annotations

import numpy as np
import pytest

from clesr.engines.common.errors import UsageError
from clesr.engines.view import field_of_view
from clesr.tools.data.phantoms import phantom_images


def test_stills_are_named_seeded_and_varied() -> None:
    stills = phantom_images("demo:?size=128&images=3&seed=7")
    assert [name for name, _ in stills] == ["phantom seed 7", "phantom seed 8", "phantom seed 9"]
    for _, image in stills:
        assert image.shape == (128, 128)
        assert image.dtype == np.uint8
        inside = field_of_view(image)
        assert 0.6 < inside.mean() < 0.8  # a disc is found
        assert image[inside].std() > 20
    images = [image.astype(int) for _, image in stills]
    assert np.abs(images[0] - images[1]).mean() > 15
    [(_, again)] = phantom_images("demo:?size=128&images=1&seed=8")
    np.testing.assert_array_equal(again, stills[1][1])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("demo:?images=0", "images is '0'; allowed is a whole number from 1 to 1000"),
        ("demo:?fps=12", "no option 'fps'; there are size, images, seed"),
    ],
)
def test_options_that_are_not_allowed_are_named(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        phantom_images(address)
