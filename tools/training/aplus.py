"""Training of A+ (see tools/evaluation/aplus.py): basis, anchors, and a ridge regressor for each.

The dictionary is of k-means instead of K-SVD: its atoms serve only to divide the sphere of features among the
regressors, and k-means does that in a minute on a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import NEW, WriteRule, make_parents
from clesr.engines.common.image import Floats
from clesr.engines.common.resample import resize
from clesr.tools.data.pairs import Pair, load_pairs
from clesr.tools.evaluation.aplus import About, APlus, features, patches_of
from clesr.tools.evaluation.gain import gain_over_bicubic
from clesr.tools.training.patches import BLANK, load_data
from clesr.tools.training.recipe import Recipe

ATOMS = 1024
NEIGHBOURS = 2048
LAMBDA = 0.1
ENERGY = 0.999  # of the features, which the basis keeps
DETAILS = 32
POOL = 200_000  # training patches; the publication has five million
BLOCK = 64  # atoms whose neighbours are looked for at once

Notify = Callable[[str, float], None]


def train_aplus(
    recipe: Recipe,
    folder: Path,
    *,
    atoms: int = ATOMS,
    neighbours: int = NEIGHBOURS,
    pool: int = POOL,
    report: Notify = lambda _what, _share: None,
    rule: WriteRule = NEW,
) -> Path:
    """Train A+ on the images of ``recipe`` (its data, scale, hold-out, shrunk, seed and test count) into ``folder``.

    ``report`` gets what is being done and the share of all that is done. Returns the path of the weights.
    Raises UsageError where the images hold too few patches.
    """
    start = monotonic()
    rng = np.random.default_rng(recipe.seed)
    pairs, held = load_data(recipe)
    found, residuals = collect(pairs, recipe.scale, pool, rng, report)
    if len(found) < neighbours:
        raise UsageError(f"the images hold {len(found)} patches that are not blank; A+ needs {neighbours}")
    basis = principal_basis(found, ENERGY)
    projected = found @ basis
    length = np.linalg.norm(projected, axis=1, keepdims=True) + 1e-6
    unit, residuals = projected / length, residuals / length
    report("anchors", 0.2)
    anchors = dictionary(unit, atoms, recipe.seed)
    regressors = regress(unit, residuals, anchors, neighbours, report)
    about = About(
        scale=recipe.scale,
        name=recipe.name,
        training={
            "images": sorted({pair.name for pair in pairs}), "held_out": [pair.name for pair in held],
            "patches": len(found), "atoms": atoms, "neighbours": neighbours, "lambda": LAMBDA, "seed": recipe.seed,
        },
    )  # fmt: skip
    model = APlus(about, basis, anchors, *factored(regressors, DETAILS))
    metrics: dict[str, Any] = {}
    if held:
        metrics["validation_gain_db"] = round(gain_over_bicubic(model.upscale, held), 3)
    if recipe.test:
        test = load_pairs(recipe.test, recipe.scale)
        metrics["test_gain_db"] = round(gain_over_bicubic(model.upscale, test), 3)
    training = {**about.training, "minutes": round((monotonic() - start) / 60, 1)}
    path = folder / "weights.safetensors"
    make_parents(path)
    replace(model, about=replace(about, training=training, metrics=metrics)).save(path, rule)
    return path


def collect(
    pairs: list[Pair], scale: int, pool: int, rng: np.random.Generator, report: Notify
) -> tuple[Floats, Floats]:
    """Features (N, 144) and residuals (N, 9 s**2) of at most ``pool`` patches, from each image by its weight, none
    blank or outside the field of view."""
    weights = np.array([pair.weight * pair.lr.size for pair in pairs])
    shares = np.ceil(pool * weights / weights.sum()).astype(int)
    found, residuals = [], []
    for index, (pair, share) in enumerate(zip(pairs, shares, strict=True)):
        report("patches", 0.2 * index / len(pairs))
        enlarged = resize(pair.lr, *pair.hr.shape)
        every = features(enlarged, scale)
        lacking = patches_of(pair.hr.astype(np.float32) - enlarged, scale)
        seen = patches_of(pair.mask.astype(np.float32), scale).min(axis=(2, 3)) > 0
        vivid = patches_of(pair.hr.astype(np.float32), scale).std(axis=(2, 3)) >= BLANK
        places = np.argwhere(seen & vivid)
        places = places[rng.permutation(len(places))[:share]]
        found.append(every[places[:, 0], places[:, 1]])
        residuals.append(lacking[places[:, 0], places[:, 1]].reshape(len(places), -1))
    return np.concatenate(found), np.concatenate(residuals)


def principal_basis(found: Floats, energy: float) -> Floats:
    """The principal directions (n, d) that keep the share ``energy`` of the energy of vectors (N, n)."""
    values, vectors = np.linalg.eigh((found.T @ found).astype(np.float64))
    kept = int(np.searchsorted(np.cumsum(values[::-1]) / values.sum(), energy)) + 1  # may be one too many
    return np.ascontiguousarray(vectors[:, ::-1][:, :kept], np.float32)


def dictionary(samples: Floats, atoms: int, seed: int) -> Floats:
    """Atoms (K, d) of unit length that lie among ``samples`` (N, d), a sample and its negative being the same."""
    from sklearn.cluster import MiniBatchKMeans  # loads SciPy and pandas: seconds

    signs = np.where(samples[:, :1] < 0, np.float32(-1), np.float32(1))
    means = MiniBatchKMeans(atoms, batch_size=8192, n_init=1, max_iter=30, random_state=seed).fit(
        samples * signs
    )
    centres = np.asarray(means.cluster_centers_, np.float32)
    return np.asarray(centres / np.linalg.norm(centres, axis=1, keepdims=True), np.float32)


def regress(unit: Floats, residuals: Floats, anchors: Floats, neighbours: int, report: Notify) -> Floats:
    """For each of ``anchors`` (K, d) the ridge regressor (9 s**2, d) of the samples that are nearest to it: features
    ``unit`` (N, d) of unit length, and ``residuals`` (N, 9 s**2), divided alike."""
    width = anchors.shape[1]
    regressors = np.empty((len(anchors), residuals.shape[1], width), np.float32)
    for first in range(0, len(anchors), BLOCK):
        report("regressors", 0.5 + first / len(anchors) / 2)
        likeness = np.abs(anchors[first : first + BLOCK] @ unit.T)
        nearest = np.argpartition(likeness, -neighbours, axis=1)[:, -neighbours:]
        for offset, members in enumerate(nearest):
            x, y = unit[members], residuals[members]
            gram = x.T @ x + LAMBDA * np.eye(width, dtype=np.float32)
            regressors[first + offset] = np.linalg.solve(gram, x.T @ y).T
    return regressors


def factored(regressors: Floats, details: int) -> tuple[Floats, Floats]:
    """Regressors (K, p, d) as (K, r, d) and the r <= ``details`` principal details (r, p) that they share.

    Of the many pixels of a large patch only so much can be told from so few features; the rest is noise that the
    regressors have learned. On held-out images 32 are better than all, and the file is small.
    """
    flat = regressors.transpose(0, 2, 1).reshape(-1, regressors.shape[1])
    shared = principal_basis(flat, 1.0)[:, :details].T
    return np.ascontiguousarray(np.einsum("rp,kpd->krd", shared, regressors)), np.ascontiguousarray(shared)
