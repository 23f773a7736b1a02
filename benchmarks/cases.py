"""Files of the kinds that people report as trouble in public trackers, through the commands a user types.

python benchmarks/cases.py FOLDER [--only NAME ...]

FOLDER holds such files and the true pixels of most (S8.npy, S16.npy, S50.npy, odd.npy). Each is up-scaled by nearest
neighbours, so that every second pixel of the result is the image that was read.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import click
import cv2
import numpy as np
from common import ROOT, environment
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from clesr.pipeline.sources.images.files import natural_key
from clesr.pipeline.video.luma import luma

Images = NDArray[np.float64]
CLESR = Path(sys.executable).with_name("clesr")
OUTPUT = ROOT / "benchmarks" / "results" / "cases.json"
EIGHT, LOSSY = (
    0.6 / 255,
    6 / 255,
)  # of full scale: half a level of 8 bits; what compression that loses may cost


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit status and words, and what it wrote. ``images`` are as read, 0 to 1."""

    status: int
    words: str
    images: list[Images] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    aspect: float = 1.0
    content: bytes = b""


Check = Callable[[Outcome, Path], str]


@dataclass(frozen=True)
class Case:
    """A file, why it is one, and what is right: ``check`` says what is wrong, nothing where nothing is."""

    name: str
    about: str
    check: Check
    options: tuple[str, ...] = ()
    reported: str = ""
    video: bool = False  # what is written: a video, which has times, or images


def truth(name: str, folder: Path) -> Images:
    found: NDArray[Any] = np.load(folder / f"{name}.npy")
    return np.asarray(found / np.iinfo(found.dtype).max, np.float64)


def shows(
    name: str,
    which: slice | Sequence[int] = slice(None),
    *,
    within: float = EIGHT,
    like: Callable[[Images], Images] = lambda image: image,
    words: str = "",
) -> Check:
    """The images ``which`` of the truth ``name``, ``like`` what the file makes of them, and a line with ``words``."""

    def check(found: Outcome, folder: Path) -> str:
        expected = [like(image) for image in truth(name, folder)[which]]
        if found.status != 0 and not found.images:
            return f"exit {found.status}: {last_line(found.words)}"
        if len(found.images) != len(expected):
            return f"{len(found.images)} images in place of {len(expected)}"
        for number, (image, right) in enumerate(zip(found.images, expected, strict=True)):
            if image.shape != right.shape:
                return f"image {number} is {image.shape[1]}x{image.shape[0]}"
            if (worst := float(np.abs(image - right).max())) > within:
                return f"image {number} is up to {worst:.0%} off"
        return "" if re.search(words, found.words) else f"nothing is said of {words}"

    return check


def plays(count: int, rate: float | None = None, *, words: str = "", aspect: float = 1.0) -> Check:
    """``count`` images at ``rate`` a second, pixels ``aspect`` times as wide as high."""

    def check(found: Outcome, _folder: Path) -> str:
        if found.status != 0:
            return f"exit {found.status}: {last_line(found.words)}"
        if len(found.times) != count:
            return f"{len(found.times)} images in place of {count}"
        if rate is not None:
            steps = np.diff(found.times)
            if np.abs(steps - 1 / rate).max() > 0.0011:  # a container's times are whole milliseconds
                return f"{1 / np.median(steps):.4g} images a second in place of {rate:g}"
        if abs(found.aspect - aspect) > 0.002:
            return f"pixels are {found.aspect:.3f} times as wide as high"
        return "" if re.search(words, found.words) else f"nothing is said of {words}"

    return check


def refused(words: str) -> Check:
    """Refused in one line that has ``words``, a regular expression; nothing is written."""

    def check(found: Outcome, _folder: Path) -> str:
        lines = found.words.strip().splitlines()
        if found.status == 0:
            return "it is taken"
        if len(lines) != 1:
            return f"{len(lines)} lines, the last {last_line(found.words)!r}"
        return "" if re.search(words, lines[0]) else f"it says {lines[0]!r}"

    return check


def both(*checks: Check) -> Check:
    return lambda found, folder: next((wrong for check in checks if (wrong := check(found, folder))), "")


def says(words: str) -> Check:
    return lambda found, _folder: "" if re.search(words, found.words) else f"nothing is said of {words}"


def last_line(words: str) -> str:
    return (words.strip().splitlines() or [""])[-1][:200]


def turned(image: Images) -> Images:
    return np.rot90(image, 2)


def flipped(image: Images) -> Images:
    return image[::-1]


def coarse(bits: int) -> Callable[[Images], Images]:
    """What is left where images have ``bits``."""
    top = 2**bits - 1
    return lambda image: np.floor(image * (2**bits - 1e-9)) / top


def dark(image: Images) -> Images:
    """The second channel, an eighth of the first."""
    return np.floor(image * 65535 / 8) / 65535


FULL = 1e-4  # of full scale: 16-bit images
FEW_BITS = 3e-4  # and those of 10 to 14, of which nothing says what lies between two levels
CASES = (
    Case(
        "ome_tail/b_0000.ome.tif",
        "OME-TIFF of one plane a file, the XML behind the pixels, 396 of 400 files missing: the others, and a line",
        shows("S16", slice(4), within=FULL, words="missing|not there|absent"),
        reported="tifffile#72, suite2p#116, bioformats#3732",
    ),
    Case(
        "ome_chunks/s_1.ome.tif",
        "OME-TIFF of two files: the images of both",
        shows("S16", slice(6), within=FULL),
    ),
    Case(
        "fifty",
        "A folder without times: a constant rate",
        plays(50, 12.5),
        ("--fps", "12.5"),
        "bioformats#3702",
        video=True,
    ),
    Case(
        "lzw16.tif",
        "A stack without times: a constant rate",
        plays(12, 20),
        ("--fps", "20"),
        "bioformats#3702",
        video=True,
    ),
    Case("time.ome.tif", "Times of OME (80 ms)", plays(6, 12.5), reported="imagej2#109", video=True),
    Case(
        "tunit_ms.tif",
        "ImageJ's interval of 80 in milliseconds",
        plays(12, 12.5),
        reported="PartSeg#1323",
        video=True,
    ),
    Case(
        "tifs_white",
        "A folder of white-is-zero, 16 bit",
        shows("S16", slice(3), within=FULL),
        reported="opencv#9550",
    ),
    Case("tifs_white8", "A folder of white-is-zero, 8 bit", shows("S8", slice(3))),
    Case("lzw8_white.tif", "White-is-zero with LZW", shows("S8"), reported="opencv#9550"),
    Case("jpegxr.tif", "JPEG XR in TIFF", shows("S8", within=LOSSY), reported="n2v#44, magellanmapper#130"),
    Case("c_png.tif", "PNG in TIFF", shows("S8")),
    Case("c_lerc.tif", "LERC in TIFF", shows("S8")),
    Case("c_lzma.tif", "LZMA in TIFF", shows("S8")),
    Case("zstd16.tif", "Zstandard in TIFF", shows("S16", within=FULL)),
    Case("packed12.tif", "12 bits packed", shows("S16", within=FEW_BITS, like=coarse(12))),
    Case(
        "twelve_in_16.tif",
        "12 bits in words of 16, which say nothing of it: as they are",
        shows("S16", within=FULL, like=lambda image: np.floor(image * 65535 / 16) / 65535),
        ("--window", "full"),
    ),
    Case(
        "badone",
        "One bitmap of an impossible size among five images: one corrupt, the others good",
        both(shows("S8", slice(5)), says("1 (corrupt|broken)")),
    ),
    Case(
        "palette_lowmap.tif",
        "A palette of 8-bit values in 16-bit fields",
        shows("S8"),
        reported="Pillow#2157",
    ),
    Case("packed4.tif", "4 bits: the full range", shows("S16", like=coarse(4)), reported="opencv#17705"),
    Case("stacks", "A folder of stacks: every page of each", shows("S16", within=FULL)),
    Case("anim.webp", "An animated WebP: all images", shows("S8"), reported="upscayl#1036"),
    Case("anim.gif", "An animated GIF", shows("S8", within=LOSSY)),
    Case(
        "orient3.tif",
        "Orientation: upside down",
        shows("S16", within=FULL, like=turned),
        reported="opencv#10703, upscayl#68",
    ),
    Case(
        "orient4.tif",
        "Orientation: mirrored",
        shows("S16", within=FULL, like=flipped),
        reported="opencv#10703, upscayl#68",
    ),
    Case("tifs_orient", "Orientation in a folder", shows("S16", slice(3), within=FULL, like=turned)),
    Case(
        "exif6.jpg",
        "Orientation of a JPEG",
        shows("S8", slice(1), within=LOSSY, like=lambda image: np.rot90(image, -1)),
        reported="opencv#10703",
    ),
    Case(
        "cover_first.mp4",
        "A cover in front of the video",
        plays(12, 25),
        reported="mutagen#661, USDX#948",
        video=True,
    ),
    Case("cover.mp4", "A cover behind the video", plays(12, 25), video=True),
    Case("cover.mkv", "A cover as an attachment", plays(12, 25), video=True),
    Case(
        "sar.mkv",
        "Pixels 16:15: kept",
        plays(12, 25, aspect=16 / 15),
        reported="video2x#161, #1149",
        video=True,
    ),
    Case(
        "rot90.mp4",
        "A matrix that turns: turned",
        shows("S8", within=LOSSY, like=lambda image: np.rot90(image, 1)),
        reported="DJV#366",
    ),
    Case("interlaced.mpg", "Interlaced: told", says("interlaced"), reported="video2x#334"),
    Case("interlaced.mpg", "Interlaced: `--deinterlace`", plays(25), ("--deinterlace",), video=True),
    Case(
        "mac",
        "A Mac's files beside the images: passed over",
        shows("S8", slice(5)),
        reported="vscode-as3mxml#830",
    ),
    Case(
        "hyper_ij.tif",
        "Two channels: one, told",
        shows("S16", slice(6), within=FULL, words="channel"),
        reported="suite2p#144, #1049",
    ),
    Case(
        "hyper_ij.tif",
        "Two channels: `--channel 1`",
        shows("S16", slice(6), within=FULL, like=dark),
        ("--channel", "1"),
    ),
    Case("hyper_ij.tif", "Two channels: the rate of the images", plays(6, 12.5), video=True),
    Case(
        "samples2.tif", "Channels as samples: one, told", shows("S16", slice(1), within=FULL, words="channel")
    ),
    Case("editlist.mp4", "An edit list", plays(38), reported="cvat#6929", video=True),
    Case(
        "trail.png",
        "Bytes behind the end of a PNG",
        shows("S16", slice(1), within=FULL),
        reported="img-parts#8",
    ),
    Case(
        "gray264.mp4",
        "Full range, untagged: `--range full`",
        shows("S8", within=1.5 / 255),
        ("--range", "full"),
        "VideoIO.jl#283",
    ),
    Case("full.mp4", "Full range, tagged", shows("S8", within=1.5 / 255)),
    Case("mf8.dcm", "DICOM, 8 bit", shows("S8"), reported="pydicom#1558"),
    Case("mf8.dcm", "DICOM: its frame time", plays(12, 12.5), video=True),
    Case("mf12.dcm", "DICOM, 12 bit", shows("S16", within=FEW_BITS, like=coarse(12))),
    Case("mf16.dcm", "DICOM, 16 bit", shows("S16", within=FULL)),
    Case("mf8_m1.dcm", "DICOM, inverse", shows("S8")),
    Case("dib8_nopal.avi", "8-bit bitmaps in AVI without a palette", shows("S8"), reported="FFMS2#148"),
    Case(
        "max1023.pgm",
        "A PGM of 10 bits: scaled",
        shows("S16", slice(1), within=FEW_BITS, like=coarse(10)),
        reported="Pillow#5403",
    ),
    Case("max4095.pgm", "A PGM of 12 bits: scaled", shows("S16", slice(1), within=FEW_BITS, like=coarse(12))),
    Case("max65535.pgm", "A PGM of 16 bits", shows("S16", slice(1), within=FULL)),
    Case("ascii.pgm", "A PGM as text", shows("S16", slice(1), within=FEW_BITS, like=coarse(12))),
    Case(
        "float.tif",
        "Floating point with its window",
        shows("S16", within=FULL),
        ("--window", "0,1"),
        "Real-ESRGAN#500",
    ),
    Case("float.tif", "Floating point without one: refused, with what to give", refused("--window")),
    Case("uint32.tif", "32 bits with their window", shows("S16", within=FULL), ("--window", "0,65535")),
    Case(
        "tifs_float",
        "A folder of floating point with its window",
        shows("S16", slice(3), within=FULL),
        ("--window", "0,1"),
    ),
    Case("zero.mkv", "A video without images", refused("before its first frame")),
    Case("soundonly.mp4", "Sound alone", refused("no video")),
    Case(
        "y16.avi",
        "16-bit gray in AVI, which FFmpeg cannot decode: refused with what to do",
        refused("no decoder"),
    ),
    Case("thumb.tif", "A preview in front: no image of the stack", shows("S16", slice(4), within=FULL)),
    Case("int16.tif", "Signed 16 bit", shows("S16", within=FULL)),
    Case("lzw_damaged.tif", "One strip damaged: that page corrupt", says("1 (corrupt|broken)")),
    Case("big.tif", "BigTIFF", shows("S16", within=FULL)),
    Case("be16.tif", "Most significant byte first", shows("S16", within=FULL)),
    Case("lzw16.tif", "LZW", shows("S16", within=FULL)),
    Case("lzw16_pred.tif", "LZW of differences", shows("S16", within=FULL)),
    Case("lzw16_be.tif", "LZW, most significant byte first", shows("S16", within=FULL)),
    Case("deflate16_pred.tif", "Deflate of differences", shows("S16", within=FULL)),
    Case("jp2k16.tif", "JPEG 2000 in TIFF", shows("S16", within=FULL)),
    Case("lzw_rgb16.tif", "Colour of 16 bits", shows("S16", within=FULL)),
    Case("lzw_rgb.tif", "Colour of 8 bits", shows("S8")),
    Case("lzw_palette.tif", "A palette of 16 bits", shows("S8")),
    Case("packbits.tif", "PackBits", shows("S8")),
    Case("lzw_int8.tif", "Signed 8 bit", shows("S8")),
    Case("jpeg8.tif", "JPEG in TIFF", shows("S8", within=LOSSY)),
    Case("g4.tif", "Group 4", shows("S8", slice(1), like=lambda image: np.asarray(image > 128 / 255, float))),
    Case("vfr.mkv", "A variable rate, to the millisecond", plays(12), video=True),
    Case("offset.mkv", "Times from 100,000 s on", plays(12), video=True),
    Case("long.mp4", "B-frames", plays(50, 25), video=True),
    *(
        Case(name, "No times", plays(50), video=True)
        for name in ("bare.h264", "bare.hevc", "bare.mjpeg", "xvid_b.avi")
    ),
    Case("imagej_gray.avi", "An AVI of ImageJ", shows("S8")),
    Case("y800.avi", "An AVI of Y800", shows("S8")),
    Case("stated0.avi", "An AVI that states no images", shows("S8")),
    Case("stated_more.avi", "An AVI that states more images than it has", shows("S8")),
    Case("noindex.avi", "An AVI without an index", shows("S8")),
    *(Case(f"{name}.avi", "Odd sizes", shows("odd")) for name in ("imagej_odd", "y800_odd")),
    Case("1x1.png", "One pixel", says("1 image ")),
    Case("la.png", "Gray and alpha", shows("S8", slice(1))),
    Case("pal.png", "A palette", shows("S8", slice(1))),
    Case("rgba16.png", "Colour of 16 bits and alpha", shows("S16", slice(1), within=FULL)),
)


def perform(case: Case, folder: Path) -> str:
    """What is wrong with ``case``; nothing where nothing is."""
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / ("out.mkv" if case.video else "out")
        window = () if "--window" in case.options else ("--window", "full")
        command = [str(CLESR), "upscale", str(folder / case.name), "-o", str(out), "--model", "nearest"]
        done = subprocess.run(
            [*command, "--scale", "2", *window, *case.options], capture_output=True, text=True, timeout=120
        )
        found = Outcome(done.returncode, done.stderr + done.stdout)
        if out.exists():
            found = read_video(found, out) if case.video else read_images(found, out)
        return case.check(found, folder)


def read(enlarged: NDArray[Any]) -> Images:
    """The image that was ``enlarged``, by what it is as a fraction of the largest value."""
    return np.asarray(enlarged[::2, ::2] / np.iinfo(enlarged.dtype).max, np.float64)


def read_images(found: Outcome, folder: Path) -> Outcome:
    """``found`` with the images in ``folder``, of stacks every page, in the order of their names."""
    images: list[Images] = []
    for path in sorted(folder.rglob("*"), key=natural_key):
        if path.suffix in (".tif", ".png"):
            pages = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)[1]
            images += [read(page) for page in pages]
        elif path.suffix == ".mkv":
            with av.open(str(path)) as container:
                images += [read(luma(frame)) for frame in container.decode(video=0)]
    return Outcome(found.status, found.words, images=images)


def read_video(found: Outcome, path: Path) -> Outcome:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [float(frame.time) for frame in container.decode(stream)]
        aspect = float(stream.sample_aspect_ratio or 1)
    return Outcome(found.status, found.words, times=times, aspect=aspect, content=path.read_bytes())


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--only", multiple=True, metavar="NAME", help="These files alone; nothing is written.")
def main(folder: Path, only: tuple[str, ...]) -> None:
    """Try, print and write cases.json; exit 1 where one is wrong."""
    cases = [case for case in CASES if not only or case.name in only]
    with ThreadPoolExecutor(2) as pool:
        wrong = list(pool.map(lambda case: perform(case, folder), cases))
    table = Table("file", "what is right", "found")
    rows: list[dict[str, Any]] = []
    for case, fault in zip(cases, wrong, strict=True):
        table.add_row(" ".join((case.name, *case.options)), case.about, fault or "right")
        command = " ".join((case.name, *case.options))
        rows.append({"file": command, "reported": case.reported, "right": case.about, "wrong": fault})
    Console(width=180).print(table)
    if not only:
        OUTPUT.write_text(json.dumps({"benchmark": "cases", **environment(), "rows": rows}, indent=1) + "\n")
    print(f"{len(cases) - sum(map(bool, wrong))} of {len(cases)} right")
    sys.exit(any(wrong))


if __name__ == "__main__":
    main()
