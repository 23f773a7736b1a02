from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.pipeline.frame import Image
from clesr.pipeline.sources.simulator.phantom import (
    FOV_UM,
    JOLT_EVERY_S,
    JOLTS,
    PHOTONS,
    READ_NOISE,
    Motion,
    Phantom,
)
from clesr.pipeline.sources.simulator.tissue import CELL_UM, place_cells
from clesr.pipeline.sources.simulator.vessels import ANGLES, HEART_HZ, FlowPath, VesselTree
from clesr.tools.data.degrade import degrade


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom(256, 3)


def radius(size: int) -> NDArray[np.float64]:
    """Distance of each pixel from the centre, in image sides."""
    x = (np.arange(size) + 0.5) / size - 0.5
    return np.hypot(x[:, None], x[None, :])


def degraded(image: Image, scale: int) -> NDArray[np.float64]:
    assert image.dtype == np.uint8
    return degrade(image.astype(np.uint8), scale).astype(np.float64)


def test_a_frame_is_the_same_in_any_order_and_in_another_phantom(phantom: Phantom) -> None:
    first = {index: phantom.measured(index) for index in (0, 7, 300)}
    phantom.truth(7, 2)
    other = Phantom(256, 3)
    for index in (300, 0, 7):
        np.testing.assert_array_equal(other.measured(index), first[index])
        np.testing.assert_array_equal(phantom.measured(index), first[index])
    np.testing.assert_array_equal(other.truth(7, 3), phantom.truth(7, 3))


def test_threads_see_the_same_frames(phantom: Phantom) -> None:
    alone = [phantom.measured(index) for index in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(phantom.measured, range(12)))
    np.testing.assert_array_equal(together, alone)


def test_seeds_and_frames_differ(phantom: Phantom) -> None:
    frame = phantom.clean(0).astype(int)
    assert np.abs(frame - phantom.clean(1)).mean() > 1
    assert np.abs(frame - Phantom(256, 4).clean(0)).mean() > 15


@pytest.mark.parametrize(
    ("size", "fov_um", "scales"),
    [
        (64, FOV_UM, (2, 4, 8)),
        (64, 130.0, (2, 8)),
        (200, FOV_UM, (3, 4)),
        (256, FOV_UM, (2, 3, 4)),
        (256, 600.0, (4,)),
        (512, FOV_UM, (2, 4)),
    ],
)
def test_lr_is_the_degraded_truth(size: int, fov_um: float, scales: tuple[int, ...]) -> None:
    """Measured: 0.2 to 0.51 grey levels on average, 5 at most inside the disc, 20 on its rim."""
    phantom = Phantom(size, 1, fov_um=fov_um)
    inside = radius(size) < 0.49 - 2.5 / size
    for scale in scales:
        error = np.abs(degraded(phantom.truth(31, scale), scale) - phantom.clean(31))
        assert error.mean() < 0.6, scale
        assert error[inside].max() <= 8, scale
        assert error.max() <= 24, scale


def test_the_truth_holds_what_the_lr_image_lacks(phantom: Phantom) -> None:
    truth = phantom.truth(0, 4)
    bicubic = cv2.resize(phantom.clean(0), (1024, 1024), interpolation=cv2.INTER_CUBIC)
    inside = radius(1024) < 0.47
    assert np.square(truth[inside].astype(float) - bicubic[inside]).mean() > 30  # under 33 dB


def test_16_bits_are_the_same_scene_in_finer_steps(phantom: Phantom) -> None:
    deep = Phantom(256, 3, bits=16)
    for eight, sixteen in ((phantom.measured(2), deep.measured(2)), (phantom.truth(2, 2), deep.truth(2, 2))):
        assert sixteen.dtype == np.uint16
        assert len(np.unique(sixteen)) > 5000
        assert np.abs(sixteen / 257 - eight).max() <= 0.51


def test_the_field_of_view_is_a_disc(phantom: Phantom) -> None:
    frame, r = phantom.measured(5), radius(256)
    assert not frame[r > 0.51].any()
    assert np.percentile(frame[r < 0.48], 1) > 4
    assert 60 < np.median(frame[r < 0.48]) < 140
    assert np.percentile(frame[r < 0.48], 99) > 180


def test_noise_is_that_of_photons_and_reading(phantom: Phantom) -> None:
    deep = Phantom(256, 3, bits=16)
    signal = np.stack([deep.clean(i) for i in range(6)]) / 65535
    error = np.stack([deep.measured(i) for i in range(6)]) / 65535 - signal
    inside = np.broadcast_to(radius(256) < 0.48, signal.shape)
    for low, high in ((0.1, 0.2), (0.3, 0.4), (0.5, 0.6)):
        here = inside & (signal > low) & (signal < high)
        expected = np.mean(signal[here]) / PHOTONS + READ_NOISE**2
        assert np.var(error[here]) == pytest.approx(expected, rel=0.05)
        assert abs(np.mean(error[here])) < 1e-3
    a, b = error[0][inside[0]], error[1][inside[0]]
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


def test_noise_can_be_turned_off() -> None:
    phantom = Phantom(128, 3, noise=0)
    np.testing.assert_array_equal(phantom.measured(4), phantom.clean(4))


def test_motion_is_bounded_smooth_and_has_jolts() -> None:
    motion = Motion(np.random.default_rng(5))
    seconds = np.arange(0, JOLTS * JOLT_EVERY_S, 0.02)
    track = np.array([motion.at(t) for t in seconds])
    assert np.abs(track).max() < 46
    assert np.ptp(track, axis=0).min() > 10
    speed = np.hypot(*np.diff(track, axis=0).T) / 0.02
    assert speed.max() < 400
    assert 2 < np.median(speed) < 40
    fast = speed > 60
    jolts = np.count_nonzero(fast[1:] & ~fast[:-1])
    assert JOLTS / 4 <= jolts <= 3 * JOLTS


def test_tissue_moves_in_the_image_as_the_probe_over_it() -> None:
    phantom = Phantom(256, 3, fps=200.0)
    window = cv2.createHanningWindow((256, 256), cv2.CV_32F)
    moves = [phantom.motion.at((i + 0.5) / phantom.fps) for i in (0, 30)]
    images = [phantom.clean(i).astype(np.float32) for i in (0, 30)]
    shift, _ = cv2.phaseCorrelate(images[0], images[1], window)
    pixels = (moves[1] - moves[0]) / (FOV_UM / 256)
    assert np.hypot(*pixels) > 0.7
    np.testing.assert_allclose(shift, -pixels, atol=0.3)


def test_only_blood_moves_under_a_resting_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = Phantom(256, 3)
    monkeypatch.setattr(phantom.motion, "at", lambda seconds: np.zeros(2))
    frames = np.stack([phantom.clean(i) for i in range(40)]).astype(int)
    moved = np.ptp(frames, axis=0) > 0
    assert 0.01 < moved.mean() < 0.35
    vessels = frames[:, np.ptp(frames, axis=0) > 25]
    assert vessels.shape[1] > 100
    plasma, blood = np.percentile(vessels, [95, 5], axis=0)
    assert (plasma - blood).mean() > 0.2 * plasma.mean()  # cells are dark in bright plasma


def test_erythrocytes_flow_at_the_speed_of_their_vessel() -> None:
    k = 1000
    straight = FlowPath(
        np.stack([np.arange(k, dtype=float), np.zeros(k)], axis=1), np.zeros(k, np.intp), np.full(k, 4.0)
    )
    tree = VesselTree(
        [straight],
        speed=120.0,
        circuit=float(k),
        starts=np.array([10.0, 400.0]),
        lanes=np.zeros(2, np.intp),
        offsets=np.array([0.0, 1.5]),
        shades=np.full(2, 0.5, np.float32),
    )
    beats = 3
    before, angles, _ = tree.cells(0.0)
    after, _, _ = tree.cells(beats / HEART_HZ)
    np.testing.assert_allclose(after[:, 0] - before[:, 0], 120 * beats / HEART_HZ, atol=1)
    np.testing.assert_array_equal(after[:, 1], [0.0, 1.5])
    assert (angles < ANGLES).all()
    steps = np.diff([tree.cells(t)[0][0, 0] for t in np.arange(0, 1 / HEART_HZ, 0.05)])
    assert steps.min() < 0.85 * 120 * 0.05 < 1.15 * 120 * 0.05 < steps.max()  # it pulses


def test_cells_have_the_size_of_epithelial_cells() -> None:
    for seed in range(5):
        cells = place_cells(np.random.default_rng(seed), 360.0, [])
        diameter = np.sqrt(360**2 / len(cells) * 4 / np.pi)
        assert 0.9 * CELL_UM[0] < diameter < 1.1 * CELL_UM[1]
