"""Figures as the paper has them: crops of every method, what is lost with the scale, and where methods err."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from clesr.engines.common.files import NEW, WriteRule, new_file
from clesr.tools.evaluation.evaluate import EvaluatedImage, MethodSummary
from clesr.tools.evaluation.metrics import psnr, ssim
from clesr.tools.export.burn_in import bar_length

CROP = 96  # HR pixels a side of what is shown enlarged
WIDEST = 5  # panels in a row
WORST = 32  # grey levels at which the error maps' colours end

mpl.use("Agg")


def draw_all(
    folder: Path,
    lines: Sequence[MethodSummary],
    pictures: Sequence[EvaluatedImage],
    pixel_um: float | None = None,
    rule: WriteRule = NEW,
) -> list[str]:
    """Every figure there is material for, as PNG files in ``folder``; their names. They show the first degradation.

    ``pixel_um``: micrometres a pixel of the images as given; None where unknown, then scale bars count pixels.
    """
    lines = [line for line in lines if line.degradation == lines[0].degradation]
    drawn = {"scale.png": losses(lines)}
    if any(line.gain is not None and line.method != "bicubic" for line in lines):
        drawn["gain.png"] = gains(lines)
    for picture in pictures:
        stem = f"{Path(picture.image).stem}-x{picture.scale}"
        drawn[f"crops-{stem}.png"] = crops(picture, pixel_um)
        drawn[f"errors-{stem}.png"] = errors(picture, pixel_um)
    for name, figure in drawn.items():
        with new_file(folder / name, rule) as temporary:
            figure.savefig(temporary, dpi=130)
    return list(drawn)


def crops(picture: EvaluatedImage, pixel_um: float | None = None) -> Figure:
    """The whole image with a rectangle, and that rectangle by every method, PSNR and SSIM below (paper: Fig. 2)."""
    y, x, side = _liveliest(picture)
    cut = np.s_[y : y + side, x : x + side]
    panels = [*picture.made.items(), ("truth", picture.hr)]
    if "nearest" not in picture.made:
        enlarged = np.repeat(np.repeat(picture.lr, picture.scale, 0), picture.scale, 1)
        panels.insert(0, ("measured, enlarged", enlarged))
    figure, axes = _grid(
        1 + len(panels), f"{picture.image}, x{picture.scale}; crops of {side} x {side} HR pixels"
    )
    axes[0].imshow(picture.hr, cmap="gray", vmin=0, vmax=255)
    _name(axes[0], "whole image, truth", f"{picture.hr.shape[1]} x {picture.hr.shape[0]} pixels")
    axes[0].add_patch(Rectangle((x, y), side, side, fill=False, edgecolor="yellow", linewidth=1.5))
    low, high = np.percentile(picture.hr[cut], (0.5, 99.5))
    for panel, (name, image) in zip(axes[1:], panels, strict=False):
        panel.imshow(image[cut], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        _name(panel, name, _figures(picture, name))
    _scale_bar(axes[0], picture.hr.shape[1], pixel_um)
    _scale_bar(axes[1], side, pixel_um)
    return figure


def errors(picture: EvaluatedImage, pixel_um: float | None = None) -> Figure:
    """Where each method errs, in grey levels: one colour scale for all."""
    figure, axes = _grid(len(picture.made), f"{picture.image}, x{picture.scale}: distance from the truth")
    drawn = None
    for panel, (name, image) in zip(axes, picture.made.items(), strict=False):
        distance = np.abs(picture.hr.astype(np.int16) - image).astype(float)
        distance[~picture.mask] = np.nan
        drawn = panel.imshow(distance, cmap="magma", vmin=0, vmax=WORST, interpolation="nearest")
        panel.set_facecolor("0.85")
        _name(panel, name, f"mean {np.nanmean(distance):.2f}")
    _scale_bar(axes[0], picture.hr.shape[1], pixel_um)
    if drawn is not None:
        figure.colorbar(drawn, ax=list(axes), label="grey levels", shrink=0.8, extend="max")
    return figure


def gains(lines: Sequence[MethodSummary]) -> Figure:
    """PSNR over bicubic by method and scale, with 95 % intervals."""
    shown = [line for line in lines if line.gain is not None and line.method != "bicubic"]
    sizes = list(dict.fromkeys(line.size for line in shown))
    figure = Figure(figsize=(7.5, 1 + 3.2 * max(1, len(sizes))), layout="constrained")
    for index, size in enumerate(sizes):
        axes = figure.add_subplot(len(sizes), 1, index + 1)
        group = [line for line in shown if line.size == size]
        scales = sorted({line.scale for line in group})
        methods = list(dict.fromkeys(line.method for line in group))
        width = 0.8 / len(methods)
        for number, method in enumerate(methods):
            own = [line for line in group if line.method == method]
            at = [scales.index(line.scale) + (number - (len(methods) - 1) / 2) * width for line in own]
            means = [line.gain for line in own if line.gain is not None]
            values = [mean.value for mean in means]
            spread = [[m.value - m.low for m in means], [m.high - m.value for m in means]]
            axes.bar(at, values, width * 0.92, yerr=spread, capsize=3, label=method)
        axes.set_xticks(range(len(scales)), [f"x{scale}" for scale in scales])
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(ylabel="PSNR over bicubic, dB", title=f"{size} size, 95 % intervals")
        axes.grid(axis="y", alpha=0.3)
        axes.legend(ncols=min(4, len(methods)), fontsize=8)
    return figure


def losses(lines: Sequence[MethodSummary]) -> Figure:
    """The share of pixels that shrinking throws away, and every method's L1 distance, against scale (paper: Fig. 3)."""
    first = lines[0].size
    shown = [line for line in lines if line.size == first]
    scales = sorted({line.scale for line in shown})
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(scales, [100 * (1 - 1 / scale**2) for scale in scales], marker="o", color="black")
    left.set(ylabel="pixels lost, %", ylim=(0, 100))
    for number, method in enumerate(dict.fromkeys(line.method for line in shown)):
        own = sorted((line for line in shown if line.method == method), key=lambda line: line.scale)
        style = "o-" if number % 2 else "o--"  # of two lines on each other both are seen
        right.plot([line.scale for line in own], [line.l1 for line in own], style, label=method)
    right.set(ylabel="L1 distance from the truth, grey levels", ylim=(0, None))
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(scales, [f"x{scale}" for scale in scales])
        axes.set_xlabel("scale")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.suptitle(f"{shown[0].images} images, {first} size")
    return figure


def _liveliest(picture: EvaluatedImage) -> tuple[int, int, int]:
    """Top, left and side of the square with the most detail that lies in the field of view and is not overexposed."""
    height, width = picture.hr.shape
    side = min(CROP, height, width)
    detail = cv2.Laplacian(cv2.GaussianBlur(picture.hr, (0, 0), 1.5), cv2.CV_64F) ** 2
    detail[picture.hr == 255] = -detail.max()
    best, found = -np.inf, (0, 0)
    for y in range(0, height - side + 1, max(1, side // 4)):
        for x in range(0, width - side + 1, max(1, side // 4)):
            cut = np.s_[y : y + side, x : x + side]
            if picture.mask[cut].all() and detail[cut].mean() > best:
                best, found = float(detail[cut].mean()), (y, x)
    return *found, side


def _scale_bar(axes: Axes, width: int, pixel_um: float | None) -> None:
    """A round length of about a quarter of ``width`` pixels, bottom left, in micrometres where they are known."""
    unit, a_pixel = ("px", 1.0) if pixel_um is None else ("\u00b5m", pixel_um)
    length = bar_length(width, a_pixel, 1 / 3)
    left, at = 0.05 * width, axes.get_ylim()[0] - 0.05 * width
    outline = [withStroke(linewidth=2.5, foreground="black")]
    axes.plot(
        [left, left + length / a_pixel], [at, at], color="white", linewidth=2.5, solid_capstyle="butt",
        path_effects=[withStroke(linewidth=4.5, foreground="black")],
    )  # fmt: skip
    above, words = at - 0.03 * width, f"{length:g} {unit}"
    axes.text(left, above, words, color="white", fontsize=8, va="bottom", path_effects=outline)


def _figures(picture: EvaluatedImage, name: str) -> str:
    made = picture.made.get(name)
    if made is None:
        return f"{picture.lr.shape[1]} x {picture.lr.shape[0]} pixels" if name != "truth" else "PSNR / SSIM"
    found = (picture.hr, made, picture.mask)
    return f"{psnr(*found):.2f} dB / {ssim(*found):.3f}"


def _grid(count: int, title: str) -> tuple[Figure, list[Axes]]:
    rows = -(-count // WIDEST)
    columns = -(-count // rows)  # so that the last row is nearly full
    figure = Figure(figsize=(2.3 * columns + 0.4, 2.75 * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in axes:
        panel.set_xticks([])
        panel.set_yticks([])
    for panel in axes[count:]:
        panel.set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure, axes


def _name(axes: Axes, name: str, below: str) -> None:
    axes.set_title(name, fontsize=9)
    axes.set_xlabel(below, fontsize=8)
