"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

from clesr.engines.common.limits import DEFAULT_SIDE, OPTION, parse_side, set_max_side
from clesr.engines.models.registry import SCALES
from clesr.pipeline.video.encoding import CODECS
from clesr.pipeline.video.hardware_decoding import DECODE
from clesr.pipeline.video.hardware_encoding import ENCODE

Command = TypeVar("Command", bound=Callable[..., Any])


def engine_options(model_help: str) -> Callable[[Command], Command]:
    """--scale, --model, --engine, --device, --precision, --threads."""
    options = [
        click.option(
            "--scale",
            type=click.Choice([str(s) for s in SCALES]),
            default="4",
            show_default=True,
            help="Factor by which width and height grow.",
        ),
        click.option("--model", metavar="NAME|FILE", default="auto", show_default=True, help=model_help),
        click.option(
            "--engine",
            metavar="NAME",
            default="auto",
            show_default=True,
            help="What computes: tensorrt, cuda, openvino, torch, or auto for the fastest that passes its self-test.",
        ),
        click.option(
            "--device", metavar="NAME", help="Device of the engine: cpu, cuda (NVIDIA) or gpu (Intel)."
        ),
        click.option("--precision", metavar="NAME", help="fp32, bf16, fp16 or fp8, where the device has it."),
        click.option(
            "--threads", type=int, metavar="N", help="Processor threads of the engine.  [default: all]"
        ),
    ]
    return apply_options(options)


def input_options() -> Callable[[Command], Command]:
    """--roi and --window."""
    options = [
        click.option(
            "--roi",
            metavar="X,Y,W,H",
            help="Use only this rectangle of the frame, in pixels: corner, width, height.",
        ),
        click.option(
            "--window",
            metavar="LEVELS",
            default="auto",
            show_default=True,
            help="Grey levels stretched to black..white: full, percentile, LOW,HIGH, or auto (full for 8 bit, "
            "percentile for 16 bit).",
        ),
    ]
    return apply_options(options)


def consistent_option() -> Callable[[Command], Command]:
    """--consistent."""
    return click.option(
        "--consistent",
        is_flag=True,
        help="Correct each image so that, shrunk again, it equals the measured one.",
    )


def decode_option() -> Callable[[Command], Command]:
    """--decode."""
    return click.option(
        "--decode",
        type=click.Choice(DECODE),
        default="auto",
        show_default=True,
        help="What decodes video: cpu, gpu (a graphics card where one gives the very same pictures), or auto: gpu for "
        "large pictures.",
    )


def encode_option() -> Callable[[Command], Command]:
    """--encode."""
    return click.option(
        "--encode",
        type=click.Choice(ENCODE),
        default="auto",
        show_default=True,
        help="What encodes H.264 and HEVC: cpu, gpu (a graphics card where a trial comes back faithfully), or auto: "
        "gpu for large images.",
    )


def codec_option() -> Callable[[Command], Command]:
    """--codec."""
    return click.option(
        "--codec",
        type=click.Choice(CODECS),
        metavar="CODEC",
        default="auto",
        show_default=True,
        help=f"Codec of the video: {', '.join(CODECS)}; ffv1 and h264-lossless lose nothing.",
    )


def overwrite_option() -> Callable[[Command], Command]:
    """--overwrite."""
    return click.option(
        "--overwrite",
        is_flag=True,
        help="Replace files that exist under the names of the outputs. Inputs and sessions are never replaced.",
    )


def general_options() -> Callable[[Command], Command]:
    """--max-size, --config and --debug; they are handled before the command starts."""
    options = [
        click.option(
            OPTION,
            metavar="PIXELS",
            expose_value=False,
            callback=_take_max_size,
            help=f"Longest side of an image that is read; larger ones are refused.  [default: {DEFAULT_SIDE}]",
        ),
        click.option("--config", metavar="FILE", expose_value=False, help="Settings from this TOML file."),
        click.option(
            "--debug", is_flag=True, expose_value=False, help="Show a traceback where something fails."
        ),
    ]
    return apply_options(options)


def _take_max_size(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        set_max_side(parse_side(value))


def apply_options(options: list[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """``options`` as one decorator."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
