"""An open TIFF file: its pages, which of them belong together, and whether its list of them is cut."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Hashable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from clesr.engines.common.errors import SourceError
from clesr.engines.common.limits import size_problem
from clesr.engines.common.parsing import one_line
from clesr.pipeline.sources.images.aspect import aspect_of

MOST_PAGES = 1_000_000
_X_RESOLUTION, _Y_RESOLUTION = 282, 283
_LEAST_PAGE = 64  # bytes of a page that has what it must have
# tifffile raises whatever its code meets in a damaged file, so every Exception is taken for damage where it is
# called. It logs the same as well, which is silenced: the source reports it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
# Kinds of files whose descriptions tifffile does not read: they name other files, which it would open, and sizes, for
# which it would take memory. Their pages are read all the same.
_UNREAD = (
    "avs", "bif", "eer", "fluoview", "indica", "mdgel", "mmstack", "ndpi", "ndtiff", "nih", "ome", "philips", "qpi",
    "scanimage", "scn", "sis", "svs",
)  # fmt: skip


def open_file(path: Path) -> tifffile.TiffFile:
    """Raises SourceError where ``path`` is no TIFF file."""
    try:
        unread: dict[str, Any] = {f"is_{kind}": False for kind in _UNREAD}
        return tifffile.TiffFile(path, _multifile=False, **unread)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file; check the path") from error
    except Exception as error:
        raise SourceError(f"{path} is not a TIFF file that can be read ({one_line(error)})") from error


class Pages(NamedTuple):
    """The pages of a file: ``images`` are the numbers of those that belong together, in order, ``aside`` how many of
    another size or depth stand beside them, ``total`` how many there are at all; ``cut`` where their list breaks off.
    """

    images: list[int]
    aside: int
    total: int
    cut: bool


def page_of(tiff: tifffile.TiffFile, number: int) -> Any:
    return tiff.pages[number]


def pages_of(tiff: tifffile.TiffFile) -> Pages:
    """The pages of ``tiff``, of which the first MOST_PAGES are looked at. Reduced ones and masks are no images."""
    forms: dict[int, Hashable] = {}
    page, number = None, 0
    begun: set[int] = set()
    possible = tiff.filehandle.size // _LEAST_PAGE + 1
    cut = False
    while len(forms) < MOST_PAGES:
        try:
            page = page_of(tiff, number)
        except IndexError:
            cut = page is not None and _chain_is_cut(tiff, page)
            break
        except Exception:  # noqa: BLE001
            cut = True
            break
        if page.offset in begun or number > possible:  # a chain that leads back, or whose links overlap
            cut = True
            break
        begun.add(page.offset)
        if not page.is_reduced and not page.subfiletype & 4:
            forms[number] = (page.imagelength, page.imagewidth, page.samplesperpixel, page.dtype)
        number += 1
    images = _together(forms)
    return Pages(images, len(forms) - len(images), number, cut)


def _together(forms: dict[int, Any]) -> list[int]:
    """The pages without those that no other is like, beside some that are alike or one that is larger: previews and
    labels. A recording whose images change their size has several of each."""
    count = Counter(forms.values())
    if len(count) < 2:
        return list(forms)
    allowed = {form: size_problem(form[:2]) is None for form in count}
    main = max(count, key=lambda form: (allowed[form], count[form], form[0] * form[1]))
    return [number for number, form in forms.items() if count[form] > 1 or form == main or not allowed[form]]


def _chain_is_cut(tiff: tifffile.TiffFile, page: Any) -> bool:
    """Whether the last ``page`` that can be read says that another follows."""
    form, file = tiff.tiff, tiff.filehandle
    file.seek(page.offset)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(page.offset + form.tagnosize + tags * form.tagsize)
    after = file.read(form.offsetsize)
    return len(after) < form.offsetsize or struct.unpack(form.offsetformat, after)[0] != 0


def page_orientation(page: Any, other: int = 1) -> int:
    """How ``page`` lies, 1 to 8: as the first of its file, ``other``, where it says nothing itself; 1 for what is none
    of these."""
    tag = page.tags.get(274)
    value = tag.value if tag is not None else other
    return int(value) if isinstance(value, int | np.integer) and 1 <= value <= 8 else 1


def aspect_stated(page: Any) -> Fraction | None:
    """Width of a pixel of ``page`` over its height by its resolutions, which are pixels per unit; None where it says
    nothing of it."""
    sides = []
    for number in (_Y_RESOLUTION, _X_RESOLUTION):  # the more pixels, the narrower each
        tag = page.tags.get(number)
        value = tag.value if tag is not None else None
        if not isinstance(value, tuple) or len(value) != 2 or not value[1]:
            return None
        sides.append(value[0] / value[1])
    return aspect_of(*sides)
