"""Formats of images, told by how a name ends: those that are read, pairs of files, and those that are not."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from blmm_bids.errors import MissingInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from blmm_bids.bids.layout import BidsFile

SINGLE_EXTENSIONS: Final = (".nii.gz", ".nii")
# A pair goes by its .img, which holds the values; its .hdr lies beside it.
PAIR_EXTENSIONS: Final = (".img", ".img.gz")
HEADER_EXTENSIONS: Final = (".hdr", ".hdr.gz")
IMAGE_EXTENSIONS: Final = (*SINGLE_EXTENSIONS, *PAIR_EXTENSIONS)

_PARTNER: Final = dict(
    zip((*PAIR_EXTENSIONS, *HEADER_EXTENSIONS), (*HEADER_EXTENSIONS, *PAIR_EXTENSIONS), strict=True)
)
# AFNI's .HEAD, as .hdr, is the lesser half of a pair and not counted beside it.
_OTHER_ENDINGS: Final = (
    ".gii", ".gii.gz", ".mgz", ".mgh", ".BRIK", ".BRIK.gz", ".mnc", ".nrrd", ".nhdr", ".mif", ".mif.gz",
)  # fmt: skip
_ENDINGS: Final = (*IMAGE_EXTENSIONS, *_OTHER_ENDINGS)
_KIND: Final = re.compile(
    r"(\.[dp][a-z]+)?\.nii(\.gz)?$|(\.(func|shape|surf|label|time))?\.gii(\.gz)?$|\.[A-Za-z]+(\.gz)?$"
)
_SHOWN: Final = 5
ADVICE: Final = "this version reads NIfTI volumes (.nii, .nii.gz, .img with .hdr); convert them"


def image_format(name: str) -> str | None:
    """Take the ending of an image's name (``.nii.gz``, ``.dscalar.nii``, ``.mgz``); None for other files.

    Of formats that are two files only the one with the values counts.
    """
    if not name.endswith(_ENDINGS):
        return None
    found = _KIND.search(name)
    return found[0] if found else None


def is_read(ending: str) -> bool:
    """Whether images of this format are read."""
    return ending in IMAGE_EXTENSIONS


def counted(endings: Iterable[str]) -> str:
    """Count formats: ``.mgz (20), .BRIK (16)``."""
    return ", ".join(f"{ending} ({count})" for ending, count in Counter(endings).most_common())


def data_extension(extension: str) -> str:
    """Extension that images of a format go by: a pair's .img for its .hdr."""
    return _PARTNER[extension] if extension in HEADER_EXTENSIONS else extension


def wanted_extensions(extensions: Collection[str]) -> frozenset[str]:
    """Extensions of the files to look at, for those that are asked for: both halves of pairs."""
    partners = {_PARTNER[each] for each in extensions if each in _PARTNER}
    return frozenset({*extensions, *partners})


def join_pairs(images: Sequence[BidsFile]) -> tuple[list[BidsFile], list[str]]:
    """Count each .hdr/.img pair once, by its .img, and leave those out that lie beside the same map as NIfTI.

    Returns
    -------
    images : list of BidsFile
        With the halves that have no partner, for `refuse_halves`.
    notices : list of str
    """
    there = {(file.folder, file.name) for file in images}
    joined, beside = [], []
    for file in images:
        if file.extension in _PARTNER:
            if any((file.folder, _renamed(file, single)) in there for single in SINGLE_EXTENSIONS):
                beside.append(file)
                continue
            if file.extension in HEADER_EXTENSIONS and (file.folder, _partner(file)) in there:
                continue
        joined.append(file)
    doubles = [file for file in beside if file.extension in PAIR_EXTENSIONS]
    if not doubles:
        return joined, []
    notice = (
        f"{len(doubles)} .hdr/.img pair(s) lie beside a .nii or .nii.gz of the same name, which is read in "
        f"their place, the first being {doubles[0].path}"
    )
    return joined, [notice]


def refuse_halves(images: Sequence[BidsFile]) -> None:
    """Refuse halves of .hdr/.img pairs.

    Raises
    ------
    MissingInputError
        Names them and what is missing.
    """
    paired = [file for file in images if file.extension in _PARTNER]
    halves = [file for file in paired if not file.path.with_name(_partner(file)).exists()]
    if not halves:
        return
    listed = "\n".join(f"  {file.path} (no {_partner(file)})" for file in halves[:_SHOWN])
    more = f"\n  and {len(halves) - _SHOWN} more" if len(halves) > _SHOWN else ""
    msg = (
        f"{len(halves)} image(s) are half of a .hdr/.img pair:\n{listed}{more}\n"
        "Copy the other half to where it is missing, or leave them out with a filter."
    )
    raise MissingInputError(msg)


def _partner(file: BidsFile) -> str:
    return _renamed(file, _PARTNER[file.extension])


def _renamed(file: BidsFile, extension: str) -> str:
    return file.name.removesuffix(file.extension) + extension
