"""Write docs/actions.md from what the actions say of themselves.

python benchmarks/actions_page.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from common import ROOT

from clesr.pipeline.controls import NAMED_KEYS, Controls
from clesr.pipeline.operator.registry import ACTIONS

PAGE = ROOT / "docs" / "actions.md"
LARGEST = 1e6  # of a bound that is worth saying
HEAD = """\
# Actions and keys

<!-- Written by benchmarks/actions_page.py; change the actions instead. -->

All that you can do while `clesr-live` runs has a name. Most have a key, in the window and in the browser. A script
does the same by the [control socket](control.md) with `clesr control`.

What you choose for the view changes nothing but the view: recordings, videos and what is sent stay as they are.
"""
TAIL = """\
## Keys of your own

Give an action another key in the settings file, or on the command line:

```toml
# keys.toml
[keys]
still = "y"
quit = "f10"
wipe = ""    # no key
```

```bash
clesr-live --config keys.toml --source /dev/video0
clesr-live --source /dev/video0 --key still=y --key quit=f10
```

A key is a character, or one of {keys}. A capital letter is the key with Shift; where no action has it, it does what the
small letter does. A key for two actions, or for an action that does not exist, is refused at the start.

## Stills

`still` writes the frame that you see, `freeze` holds it, and `note` is of it, however many have come meanwhile: window
and page say its `number`. What was made in the last second is kept for that, in at most 128 MB; where that frame is not
kept any more it is the newest, or the one that is held, and the answer says so. `still` writes to the folder of
`--stills`, and never replaces a file:

| file | what it is |
|---|---|
| `clesr-still-TIME-NUMBER.raw.png` | the captured image, 16 bits |
| `....sr.png` | the up-scaled image, 16 bits |
| `....bicubic.png` | the prepared image, enlarged without a network, 16 bits |
| `....json` | engine, model, scale, settings that made it, number, time, fidelity, region, digests; `status` of run |
| `....raw.dcm`, `....sr.dcm` | with `dicom`: the same as DICOM, without patient and date |

8-bit levels are multiplied by 257: black stays black, white becomes 65535, and the levels can be had back exactly.

## Alarms

A recording that ended early, gets no image or lacks frames is an alarm. Frames are missing where the disk had no time
for them, where the source lost them (a gap in its numbers, an outage) and where they could not be decoded. While that
goes on, it is an alarm again, at most every 5 seconds. Of several streams one that breaks is an alarm of another that
goes on, under its name. What nobody has acknowledged of one that ends, or whose window and page broke, moves there: the
newest three, and how many more there are.

Of several alarms the newest is shown, and how many more there are. `acknowledge` says that this one was seen, no
other; then the next is shown. In the window and on the page it is the alarm that stood there, whatever has come
since. A program gives its words as `alarm`, or nothing, for the one that is `alarm` in the [status](control.md). What
was acknowledged is a line on standard error, a note in the session that this stream records, and stands in
`acknowledged` of the status.
"""


def page() -> str:
    """docs/actions.md."""
    own = (ACTIONS[name] for name in ACTIONS.own)
    described = Controls(None, own).describe()
    groups = dict.fromkeys(action["group"] for action in described)
    parts = [HEAD]
    for group in groups:
        rows = "\n".join(_rows(action for action in described if action["group"] == group))
        parts.append(
            f"## {group}\n\n| key | action | what it does | arguments |\n|---|---|---|---|\n{rows}\n"
        )
    parts.append(TAIL.replace("{keys}", _named_keys()))
    return "\n".join(parts)


def _rows(actions: Iterator[dict[str, Any]]) -> Iterator[str]:
    for action in actions:
        arguments = "<br>".join(map(_argument, action["arguments"]))
        key = f"`{action['key']}`" if action["key"] else ""
        yield f"| {key} | `{action['name']}` | {action['help']} | {arguments} |"


def _argument(argument: dict[str, Any]) -> str:
    words = [argument["help"]]
    if argument["choices"]:
        words.append("one of " + ", ".join(f"`{choice}`" for choice in argument["choices"] if choice != ""))
    elif argument["kind"] == "str" and argument["maximum"]:
        words.append(f"at most {argument['maximum']:.0f} characters")
    elif argument["minimum"] is not None and (argument["maximum"] or LARGEST) < LARGEST:
        words.append(f"{argument['minimum']:g} to {argument['maximum']:g}")
    elif argument["kind"] == "bool":
        words.append("`on` or `off`")
    if argument["required"]:
        words.append("needed")
    return f"`{argument['name']}`: " + "; ".join(words)


def _named_keys() -> str:
    plain = [key for key in NAMED_KEYS if not key[1:].isdigit()]
    return ", ".join(f"`{key}`" for key in plain) + ", `f1` to `f12`"


if __name__ == "__main__":
    PAGE.write_text(page())
