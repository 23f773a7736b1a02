"""`clesr verify`: the certificate of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import rich_click as click

from clesr.engines.common.errors import ClesrError
from clesr.engines.common.files import WriteRule, write_json
from clesr.engines.common.text import presentable
from clesr.pipeline.frame import Outcome
from clesr.pipeline.session.verify import Certificate, verify
from clesr.tools.console import progress_bar
from clesr.tools.options import general_options, overwrite_option

RUNS = 30  # runs of missing frames that are named in the text; all are in the JSON


@click.command(name="verify")
@click.argument("session", metavar="SESSION", type=click.Path(path_type=Path))
@click.option("--json", "json_file", metavar="FILE", help="Also write the certificate as JSON.")
@overwrite_option()
@general_options()
def verify_session(session: Path, json_file: str | None, overwrite: bool) -> None:
    """Check that nothing in SESSION was lost or changed, and print its certificate of completeness.

    Every pixel is decoded and compared with its hash, every line with the line before it, every file with its
    digest; every missing number must be explained. Exit status 1 where anything does not hold.
    """
    rule = WriteRule.of(overwrite, session)
    rule.check_all(json_file)
    with progress_bar(session.name, None, unit="images") as advance:
        certificate = verify(session, _counted(advance))
    for line in describe(certificate):
        print(presentable(line))
    if json_file is not None:
        write_json(Path(json_file), certificate.as_json(), rule)
    if not certificate.holds:
        first = certificate.problems[0]
        raise ClesrError(f"{session} does not hold: {first}" + _more(len(certificate.problems) - 1))


def describe(certificate: Certificate) -> list[str]:
    """The certificate as lines of text."""
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
    missing = certificate.missing
    lines += [f"missing    {m.what} {m}" for m in missing[:RUNS]]
    if len(missing) > RUNS:
        lines.append(f"missing    {len(missing) - RUNS} runs more; --json has them all")
    lines += [f"PROBLEM    {problem}" for problem in certificate.problems]
    lines.append(f"digest     {certificate.digest}")
    verdict = "everything holds" if certificate.holds else "DOES NOT HOLD"
    if certificate.holds and info.ended != "stopped":
        verdict += f"; {info.ended}"
    return [*lines, f"verdict    {verdict}"]


def _counted(advance: Callable[[float, str], None]) -> Callable[[int], None]:
    return lambda images: advance(images, "")


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _more(count: int) -> str:
    return f"; and {count} more" if count > 0 else ""
