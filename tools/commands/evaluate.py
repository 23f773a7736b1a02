"""`clesr evaluate`: how good each method is, on images whose truth is known."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import rich_click as click

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import WriteRule
from clesr.engines.common.text import presentable
from clesr.engines.models.registry import SCALES
from clesr.pipeline.settings import overwriting, setting
from clesr.tools.common.console import progress_bar
from clesr.tools.common.options import command

log = logging.getLogger(__name__)
RESULTS = ("table.md", "rows.csv", "rows.json", "scale.png", "gain.png")  # and figures named by their images
_what, _output = (partial(setting, panel=panel) for panel in ("What", "Output"))
GREEDY = ("--data", "--scales", "--methods", "--picture", "--degradation")


class Greedy(click.RichCommand):
    """Lets the options in GREEDY take several words: ``--scales 2 4 8`` and ``--scales 2,4,8``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = None
        for word in args:
            if word.startswith("-"):
                option = word if word in GREEDY else None
            elif option is not None and spread[-1] != option:
                spread.append(option)
            spread.append(word)
        return super().parse_args(ctx, spread)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What to compare, and where the result goes."""

    data: tuple[str, ...] = _what(
        ..., "Folders, patterns or files of images, TIFF stacks, .mkt files or videos: the truth.", "PATH ..."
    )
    scales: tuple[str, ...] = _what(("4",), "2, 4, 8.", "SCALE ...")
    methods: tuple[str, ...] = _what(
        ("all",),
        "nearest, bilinear, bicubic, a+, srcnn, densenet, fast; all: these seven; densenet-paper; "
        "span, a network for photographs, where its packages are installed; .safetensors files.",
        "NAME ...",
    )
    size: str = _what(
        "native",
        "Images as they are, or shrunk by two first, which has finer structure for its pixels.",
        choices=("native", "half", "both"),
    )
    degradation: tuple[str, ...] = _what(
        ("clean",),
        "What the LR images suffer, each by itself: noise=5 (grey levels), shot=0.2, jpeg=50, mpeg=8, point, "
        "area, gauss=0.4, cores=1.5 (LR pixels apart), lines=0.3; joined by +, all together.",
        "PART[+PART] ...",
    )
    engine: str = _what("auto", "What computes the networks, as of `clesr live`.")
    output: str | None = _output(
        None, "Where table.md, rows.csv, rows.json and the figures go.", "FOLDER", names=("-o",)
    )
    json: str | None = _output(None, "The rows as JSON.", "FILE")
    figures: bool = _output(True, "Draw figures into --output.", negative=True)
    picture: tuple[str, ...] = _output((), "Images shown in the figures.  [default: the first]", "NAME ...")
    pixel_size: float | None = _output(
        None,
        "Micrometres a pixel of the images, for scale bars.  [default: bars in pixels]",
        "UM",
        above_zero=True,
    )
    overwrite: bool = overwriting()


@command(EvaluateOptions, cls=Greedy)
def evaluate(options: EvaluateOptions) -> None:
    """Measure methods on images whose truth is known: shrink each, up-scale it, compare.

    Prints PSNR, SSIM and time by method and scale, with 95 % intervals and the difference to bicubic, image by
    image. In round fields of view only what lies inside counts. "Wrapped" PSNR is the original authors' arithmetic
    in 8 bits: for comparison with their figures alone.

    Examples:

    - `clesr evaluate --data test/ --scales 2 4 8 --methods all -o results/`
    - `clesr evaluate --data test/ --degradation clean noise=5 jpeg=50 noise=3+jpeg=80 --methods bicubic fast densenet`
    - `clesr evaluate --data 'mine/*.png' --methods bicubic fast runs/mine/weights.safetensors --json rows.json`
    """
    from clesr.tools.data.degradations import parse_degradations
    from clesr.tools.data.images import read_entry
    from clesr.tools.evaluation import evaluate as evaluation
    from clesr.tools.evaluation import report
    from clesr.tools.evaluation.methods import wanted_methods

    rule = _write_rule(options)
    if options.output and options.figures:
        _figures_module()
    wanted = wanted_methods(_words(options.methods))
    factors = _scales(_words(options.scales))
    sizes = list(evaluation.SIZES) if options.size == "both" else [options.size]
    suffered = parse_degradations(",".join(options.degradation))
    images = [item for entry in options.data for item in read_entry(entry)]
    shown = list(options.picture) or [images[0][0]]
    names = [name for name, _ in images]
    for name in shown:
        if name not in names:
            raise UsageError(f"--picture {name} is not among the images; there are {', '.join(names)}")
    total = len(wanted) * len(factors) * len(sizes) * len(suffered) * len(images)
    with progress_bar("evaluate", total, unit="images") as advance:
        rows, pictures = evaluation.evaluate(
            images,
            methods=wanted,
            scales=factors,
            sizes=sizes,
            degradations=suffered,
            engine=options.engine,
            pictured=shown if options.output and options.figures else (),
            advance=lambda done: advance(done, ""),
        )
    if not rows:
        raise UsageError("nothing to compare: no method has weights for these scales")
    lines = evaluation.summarise(rows)
    table = report.markdown(lines) + report.engines(rows)
    for line in table.splitlines():
        click.echo(presentable(line))
    if options.json:
        report.write(Path(options.json), report.json_text(rows), rule)
        log.info(f"wrote {options.json}")
    if options.output:
        folder = Path(options.output)
        report.write(folder / "table.md", table, rule)
        report.write(folder / "rows.csv", report.csv_text(rows), rule)
        report.write(folder / "rows.json", report.json_text(rows), rule)
        drawing = (folder, lines, pictures, options.pixel_size, rule)
        drawn = _figures_module().draw_all(*drawing) if options.figures else []
        log.info(f"wrote {', '.join(['table.md', 'rows.csv', 'rows.json', *drawn])} to {folder}")


def _write_rule(options: EvaluateOptions) -> WriteRule:
    """What may be replaced; raises ClesrError where a result may not be written."""
    from clesr.tools.data.images import named_files

    rule = WriteRule.of(options.overwrite, *_words(options.methods), *named_files(options.data))
    folder = Path(options.output) if options.output else None
    rule.check_all(options.json, *(folder / name for name in RESULTS if folder))
    return rule


def _figures_module() -> ModuleType:
    try:
        from clesr.tools.evaluation import figures
    except ModuleNotFoundError as error:
        raise UsageError(
            f"figures need {error.name}; install it with: pip install 'clesr[train]', or give --no-figures"
        ) from error
    return figures


def _words(given: tuple[str, ...]) -> list[str]:
    return [word for text in given for word in text.split(",") if word]


def _scales(words: list[str]) -> list[int]:
    allowed = {str(scale): scale for scale in SCALES}
    for word in words:
        if word not in allowed:
            raise UsageError(f"--scales {word} is not one of {', '.join(allowed)}")
    return [allowed[word] for word in dict.fromkeys(words)]
