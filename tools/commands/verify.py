"""`clesr verify`: the certificate of a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from clesr.engines.common.errors import ClesrError
from clesr.engines.common.files import WriteRule, write_json
from clesr.engines.common.text import presentable
from clesr.pipeline.settings import overwriting, setting
from clesr.tools.common.console import progress_bar
from clesr.tools.common.options import command

if TYPE_CHECKING:
    from clesr.pipeline.session.verify import Certificate, Missing


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Where the certificate goes."""

    json: str | None = setting(None, "Also write the certificate as JSON.", "FILE")
    overwrite: bool = overwriting()


@command(VerifyOptions)
@click.argument("session", metavar="SESSION", type=click.Path(path_type=Path))
def verify(options: VerifyOptions, session: Path) -> None:
    """Check that nothing in SESSION was lost or changed, and print its certificate of completeness.

    Every pixel is decoded and compared with its hash, every line with the line before it, every file with its
    digest; every missing number must be explained. Exit status 1 where anything does not hold.
    """
    from clesr.pipeline.session.verify import verify as check_session

    rule = WriteRule.of(options.overwrite, session)
    rule.check_all(options.json)
    with progress_bar(session.name, None, unit="images") as advance:
        certificate = check_session(session, lambda images: advance(images, ""))
    for line in describe(certificate):
        print(presentable(line))
    if options.json is not None:
        write_json(Path(options.json), certificate.as_json(), rule)
    if not certificate.holds:
        first, *others = certificate.problems
        raise ClesrError(
            f"{session} does not hold: {first}" + (f"; and {len(others)} more" if others else "")
        )


def describe(certificate: Certificate) -> list[str]:
    """The certificate as lines of text."""
    from clesr.pipeline.frame import Outcome

    info, totals = certificate.info, certificate.totals
    outcomes = [f"{totals[o]} {o}" for o in [*map(str, Outcome), "unfinished"] if totals.get(o)]
    made = f"{info.model} x{info.scale} {info.model_hash[:12]} by {info.engine} {info.precision} on {info.device}"
    lines = [
        f"session    {certificate.folder} ({info.id})",
        f"recorded   {info.started} from {info.source}",
        f"made by    {made if info.model else 'no engine'}",
        f"captured   {totals.get('captured', 0)} frames: {', '.join(outcomes) or 'none'}",
        f"raw        {totals.get('raw', 0)} frames ({info.raw_codec}, {info.dtype}, {_size(info.raw_shape)})",
        f"up-scaled  {totals.get('sr', 0)} frames ({info.sr_codec}, {_size(info.sr_shape)})",
    ]
    if certificate.sr_left_out:
        lines.append(
            f"left out   {certificate.sr_left_out} up-scaled images: the disk was nearly full, raw frames came first"
        )
    if totals.get("damaged"):
        lines.append(f"damaged    {totals['damaged']} frames build on a damaged picture")
    lines += [f"missing    {line}" for line in _missing(certificate.missing)]
    lines += [f"PROBLEM    {problem}" for problem in certificate.problems]
    lines.append(f"digest     {certificate.digest}")
    verdict = "everything holds" if certificate.holds else "DOES NOT HOLD"
    if certificate.holds and (outages := totals.get("outages")):
        unknown = f", {totals['uncounted']} of unknown number" if totals.get("uncounted") else ""
        verdict += (
            f", but it is not complete: the source was away {outages} time{'s' * (outages > 1)}{unknown}"
        )
    elif certificate.complete:
        verdict += ", and it is complete"
        if absent := totals.get(Outcome.LOST, 0) + totals.get(Outcome.CORRUPT, 0):
            verdict += f": all that came is in it; {absent} frames were lost or damaged on their way"
    if certificate.holds and info.ended != "stopped":
        verdict += f"; {info.ended}"
    return [*lines, f"verdict    {verdict}"]


def _missing(missing: Sequence[Missing]) -> Iterator[str]:
    """A line for each cause, with all numbers that it took; --json has the single runs."""

    def cause(run: Missing) -> tuple[str, str]:
        return run.what, run.reason

    for (what, reason), group in groupby(sorted(missing, key=cause), cause):
        runs = sorted(group, key=lambda run: run.first)
        if len(runs) == 1:
            yield f"{what} {runs[0]}"
        else:
            count = sum(run.last - run.first + 1 for run in runs)
            yield f"{what} {count} frames in {len(runs)} runs from {runs[0].first} to {runs[-1].last}: {reason}"


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]}x{shape[0]}"
