"""Camera controls by name: exposure, gain, and whatever else the driver offers."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from linuxpy.video import device as v4l2  # type: ignore[import-untyped]

from clesr.engines.common.errors import SourceError, UsageError
from clesr.engines.common.numbers import whole_number

Control: TypeAlias = v4l2.BaseControl
_TYPES = v4l2.ControlType
KINDS = {
    _TYPES.INTEGER: v4l2.IntegerControl,
    _TYPES.INTEGER64: v4l2.Integer64Control,
    _TYPES.BOOLEAN: v4l2.BooleanControl,
    _TYPES.MENU: v4l2.MenuControl,
    _TYPES.INTEGER_MENU: v4l2.MenuControl,
    _TYPES.BUTTON: v4l2.ButtonControl,
}

# Drivers name the same control differently, so the two that matter most go by number, best first.
_IDS = v4l2.ControlID
ALIASES = {"exposure": (_IDS.EXPOSURE_ABSOLUTE, _IDS.EXPOSURE), "gain": (_IDS.GAIN, _IDS.ANALOGUE_GAIN)}
# What must be off before they have an effect, and the value that is off.
AUTOMATICS = {
    _IDS.EXPOSURE_ABSOLUTE: (_IDS.EXPOSURE_AUTO, 1),
    _IDS.EXPOSURE: (_IDS.EXPOSURE_AUTO, 1),
    _IDS.GAIN: (_IDS.AUTOGAIN, 0),
}
SWITCHES = (v4l2.MenuControl, v4l2.BooleanControl)  # others may depend on them, so they are set first
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def set_controls(device: v4l2.Device, wanted: Mapping[str, str]) -> None:
    """Set the controls of an open linuxpy device; menu entries may be given by their text.

    Automatic exposure or gain is switched off before exposure or gain is set, unless it is in ``wanted`` too.
    Raises UsageError for a name or value that the camera does not have, SourceError where it refuses one,
    OSError where it is gone.
    """
    if not wanted:
        return
    controls = {control.id: control for control in _controls(device) if control.is_writeable}
    values: dict[int, int] = {}
    for name, text in wanted.items():
        control = _find(controls, name, str(device.filename))
        values[control.id] = _parse(control, name, text)
    for name_id in list(values):
        automatic, off = AUTOMATICS.get(name_id, (None, 0))
        if automatic in controls and automatic not in values and _is_allowed(controls[automatic], off):
            values[automatic] = off
    for control_id in sorted(values, key=lambda key: not isinstance(controls[key], SWITCHES)):
        _write(controls[control_id], values[control_id], str(device.filename))


def _controls(device: v4l2.Device) -> Iterator[Control]:
    """The controls that hold one value; linuxpy's own list fails on kinds unknown to it."""
    for info in device.info.controls:
        kind = KINDS.get(info.type)
        if kind is None or info.flags & v4l2.ControlFlag.HAS_PAYLOAD:
            continue
        yield kind(device, info, None)


def control_names(device: v4l2.Device) -> frozenset[str]:
    """The names of what can be set of an open linuxpy device, also where it does not let it be set just now."""
    return _names({control.id: control for control in _controls(device)})


def no_control(address: str, name: str, names: Iterable[str]) -> str:
    """That the camera at ``address`` has no control ``name``, but those of ``names``."""
    return f"{address} has no control {name!r}; it has: {', '.join(sorted(names)) or 'none'}"


def _names(controls: Mapping[int, Control]) -> frozenset[str]:
    aliases = {alias for alias, ids in ALIASES.items() if any(i in controls for i in ids)}
    return frozenset(aliases | {control.config_name for control in controls.values()})


def _find(controls: Mapping[int, Control], name: str, address: str) -> Control:
    wanted = name.strip().lower().replace("-", "_")
    for control_id in ALIASES.get(wanted, ()):
        if control_id in controls:
            return controls[control_id]
    offered = {control.config_name: control for control in controls.values()}
    if wanted in offered:
        return offered[wanted]
    raise UsageError(no_control(address, name, _names(controls)))


def _parse(control: Control, name: str, text: str) -> int:
    if isinstance(control, v4l2.MenuControl):
        return _parse_menu(control, name, text)
    if isinstance(control, v4l2.BooleanControl):
        if text.lower() not in TRUE + FALSE:
            raise UsageError(f"{name}={text} is neither on nor off; give 1 or 0")
        return int(text.lower() in TRUE)
    if isinstance(control, v4l2.ButtonControl):
        return 1
    try:
        value = whole_number(text)
    except ValueError:
        value = None
    if value is None or not control.minimum <= value <= control.maximum:
        steps = f" in steps of {control.step}" if control.step > 1 else ""
        raise UsageError(
            f"{name}={text} is not in the camera's range; give a whole number "
            f"from {control.minimum} to {control.maximum}{steps}"
        )
    return value


def _parse_menu(control: Control, name: str, text: str) -> int:
    entries = {int(index): str(label) for index, label in control.data.items()}
    wanted = text.strip().lower()
    for index, label in entries.items():
        if label.lower() == wanted:
            return index
    if re.fullmatch("[0-9]{1,9}", wanted) and int(wanted) in entries:
        return int(wanted)
    menu = ", ".join(f"{label!r} ({index})" for index, label in entries.items())
    raise UsageError(f"{name}={text} is not in the camera's menu; give one of {menu}")


def _is_allowed(control: Control, value: int) -> bool:
    if isinstance(control, v4l2.MenuControl):
        return value in control.data
    return bool(control.minimum <= value <= control.maximum)


def _write(control: Control, value: int, address: str) -> None:
    try:
        v4l2.set_controls_values(control.device, ((control._info, value),))
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise
        hint = "; if an automatic is in charge of it, switch that off" if error.errno == errno.EACCES else ""
        raise SourceError(
            f"{address} refuses {control.config_name}={value}: {error.strerror}{hint}"
        ) from error
