"""`clesr control`: what the operator's keys do, from a script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rich_click as click

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.common.numbers import shortened
from clesr.engines.common.text import presentable
from clesr.pipeline.settings import setting
from clesr.tools.commands.info import lines
from clesr.tools.common.options import command


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """Whom, and how it is shown."""

    stream: str | None = setting(None, "Of several streams, the one that is meant.", "NAME")
    wait: float = setting(10.0, "Seconds to wait for the answer.", "S", above_zero=True)
    json: bool = setting(False, "Print the answer as JSON.")


@command(ControlOptions)
@click.argument("address", metavar="ADDRESS")
@click.argument("action", metavar="[ACTION]", required=False)
@click.argument("values", metavar="[NAME=VALUE]...", nargs=-1)
def control(options: ControlOptions, address: str, action: str | None, values: tuple[str, ...]) -> None:
    """Do ACTION in a running clesr-live, or show what can be done and how it stands.

    ADDRESS is what clesr-live got as `--control`. What cannot be done is told in a line; the exit status is 1 then.

    Examples:

    - `clesr control zmq+tcp://127.0.0.1:5557`
    - `clesr control zmq+tcp://127.0.0.1:5557 still dicom=on`
    - `clesr control zmq+tcp://127.0.0.1:5557 note 'text=second site'`
    - `clesr control zmq+tcp://127.0.0.1:5557 quit sure=on`
    """
    which = {} if options.stream is None else {"stream": options.stream}
    if action is None:
        asked = [{"actions": True, **which}, {"status": True, **which}]
    else:
        asked = [{"action": action, "arguments": _arguments(values), **which}]
    told: dict[str, Any] = {}
    for request in asked:
        told |= _ask(address, request, options.wait)
    shown = [json.dumps(told, indent=2)] if options.json else map(presentable, _lines(told))
    for line in shown:
        print(line)


def _ask(address: str, request: Mapping[str, Any], wait: float) -> dict[str, Any]:
    """The answer. Raises ClesrError where it is that something cannot be done."""
    from clesr.pipeline.operator.control_socket import ask

    told = ask(address, request, wait)
    if told.pop("ok", None) is not True:
        raise ClesrError(presentable(str(told.get("error", "it was refused without a reason"))))
    return told


def _arguments(values: Sequence[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for (name, found, _), value in zip(pairs, values, strict=True):
        if not (name and found):
            raise UsageError(f"{shortened(value)} is not NAME=VALUE, such as position=0.3")
    return {name: value for name, _, value in pairs}


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What was said, then all else that was told; of actions a line each, and what the run lacks for them."""
    actions = told.get("actions", ())
    width = max((len(action["name"]) for action in actions), default=0)
    for action in actions:
        names = " ".join(f"{argument['name']}=" for argument in action["arguments"])
        yield f"{action['name']:{width}}  {action['key'] or '-':5}  {action['help']}  {names}".rstrip()
        if action.get("missing"):  # which a clesr of before does not tell
            yield f"{'':{width}}  {'':5}  not in this run: {action['missing']}"
    if told.get("said"):
        yield str(told["said"])
    yield from lines({name: value for name, value in told.items() if name not in ("actions", "said")})
