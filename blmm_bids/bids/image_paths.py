"""Files that a table of images names: where they are, and what is wrong with those that cannot be read."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blmm_bids.errors import DataError, MissingInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SHOWN: Final = 5
NIFTI: Final = (".nii.gz", ".nii", ".img", ".img.gz", ".hdr", ".hdr.gz")
# SPM's "con_0001.nii,1" and AFNI's "stats.nii[0]": a volume of a file.
_VOLUME: Final = re.compile(r"(?:,(?P<spm>\d+)|'?\[(?P<afni>[^\]]*)\]'?)$")
_FIRST: Final = {"spm": "1", "afni": "0"}
_AFNI: Final = re.compile(r"(?P<prefix>.+)\+(orig|acpc|tlrc)\.?(HEAD|BRIK(\.(gz|bz2|Z))?)?$")
_OTHERS: Final[Mapping[str, str]] = {
    ".mgz": "FreeSurfer's volumes are converted by 'mri_convert {stem}.mgz {stem}.nii.gz'",
    ".mgh": "FreeSurfer's volumes are converted by 'mri_convert {stem}.mgh {stem}.nii.gz'",
    ".mat": "name the images that the file is about: SPM.mat lies beside con_0001.nii",
    ".gii": "surfaces are not read in this version",
    ".niml.dset": "surfaces are not read in this version",
    ".feat": "name the image in the folder, as stats/cope1.nii.gz",
    ".gfeat": "name an image in the folder, as cope1.feat/stats/cope1.nii.gz",
}
_ANY_OTHER: Final = "wanted a NIfTI volume: .nii, .nii.gz, or a pair .hdr/.img"


@dataclass(frozen=True)
class Named:
    """A file as a cell of the table names it.

    Attributes
    ----------
    text : str
        Without the mark of a first volume.
    line : int
        Of the table.
    """

    text: str
    line: int


@dataclass(frozen=True)
class Finder:
    """Finds the files of a table.

    Attributes
    ----------
    table : Path
    bids_dir : Path
        Relative paths start at the table's folder or, where nothing is there, here.
    """

    table: Path
    bids_dir: Path

    def candidates(self, text: str) -> tuple[Path, ...]:
        """Where a file may be, absolute, the first choice first."""
        path = Path(text).expanduser() if text.startswith("~/") else Path(text)
        folders = (self.table.parent, self.bids_dir)
        return tuple(dict.fromkeys(_plain(folder / path) for folder in folders))

    def find(self, named: Sequence[Named], what: str) -> tuple[Path, ...]:
        """Find files, all of which have to be there.

        Parameters
        ----------
        named : sequence of Named
        what : str
            What they are, for messages: ``"images"``.

        Raises
        ------
        DataError
            One cell means two files, or a file of another format.
        MissingInputError
            Some are not there; says how many, and the first of them.
        """
        self._check_formats(named, what)
        found: list[Path] = []
        absent: list[tuple[Named, Path]] = []
        for each in named:
            candidates = self.candidates(each.text)
            there = [path for path in candidates if _is_there(path)]
            if len(there) > 1 and not there[0].samefile(there[1]):
                msg = (
                    f"{self.table}, line {each.line}: {each.text} may be {there[0]}, from the table's "
                    f"folder, or {there[1]}, from BIDS_DIR: two different files. Write its absolute path."
                )
                raise DataError(msg)
            if not there:
                absent.append((each, candidates[0]))
            found.append((there or candidates)[0])
        if absent:
            raise MissingInputError(self._absent_message(absent, len(named), what))
        self._refuse_folders(named, found)
        return tuple(found)

    def _check_formats(self, named: Sequence[Named], what: str) -> None:
        wrong = [each for each in named if not each.text.lower().endswith(NIFTI)]
        if wrong:
            first = wrong[0]
            msg = (
                f"{self.table}, line {first.line}: {first.text} is no NIfTI file ({len(wrong)} of "
                f"{len(named)} {what} are not); {_remedy(first.text)}."
            )
            raise DataError(msg)

    def _refuse_folders(self, named: Sequence[Named], found: Sequence[Path]) -> None:
        for each, path in zip(named, found, strict=True):
            if path.is_dir():
                msg = f"{self.table}, line {each.line}: {path} is a folder. Name an image in it."
                raise DataError(msg)

    def _absent_message(self, absent: Sequence[tuple[Named, Path]], n_all: int, what: str) -> str:
        listed = "\n".join(f"  line {each.line}: {path}" for each, path in absent[:_SHOWN])
        more = f"\n  … and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        # Unlike Path's, this takes any text for a path.
        if any(os.path.islink(path) for _, path in absent):  # noqa: PTH114
            advice = "Links without content are filled by 'datalad get' (or 'git annex get')."
        elif any(_is_closed(path.parent) for _, path in absent):
            advice = "A folder of theirs cannot be entered: check its permissions."
        elif any("\\" in each.text for each, _ in absent):
            advice = "Write / between folders, not \\."
        elif all(Path(each.text).is_absolute() for each, _ in absent):
            advice = "Check the paths (inside a container: are their folders mounted under these names?)."
        else:
            advice = f"Relative paths start at the table's folder, then at BIDS_DIR ({self.bids_dir})."
        first = f"{len(absent)} of {n_all} {what} that {self.table} names cannot be found:"
        return f"{first}\n{listed}{more}\n{advice}"


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):  # also names that are too long, or no names at all
        return False
    return True


def _is_closed(folder: Path) -> bool:
    return _is_there(folder) and not os.access(folder, os.X_OK)


def _plain(path: Path) -> Path:
    """Path without ``..``, where that is still the same file: not so behind a linked folder."""
    path = path.absolute()
    plain = Path(os.path.normpath(path))
    if plain == path or not _is_there(path):
        return plain
    return plain if _is_there(plain) and plain.samefile(path) else path


def _remedy(text: str) -> str:
    volume = _VOLUME.search(text)
    stem = _VOLUME.sub("", text)
    afni = _AFNI.fullmatch(stem)
    if afni:
        chosen = f"[{volume['afni']}]" if volume and volume["afni"] else ""
        return f"convert it: 3dAFNItoNIFTI -prefix {afni['prefix']}.nii.gz '{stem}{chosen}'"
    if volume:
        index = int(volume["spm"]) - 1 if volume["spm"] else volume["afni"]
        return (
            f"write the volume of the 4-D file to a file of its own: fslroi {stem} NEW.nii.gz {index} 1, "
            f"3dbucket -prefix NEW.nii.gz '{stem}[{index}]', or SPM's 4D to 3D File Conversion"
        )
    bare = text.rstrip("/")
    for ending, remedy in _OTHERS.items():
        if bare.lower().endswith(ending):
            return remedy.format(stem=bare[: -len(ending)])
    return _ANY_OTHER


def file_of(text: str) -> str:
    """Leave out the mark of a first volume; a file of several volumes is refused when it is read.

    SPM writes it after the name of every file, ``con_0001.nii,1``. AFNI's tables may have quotes for a shell.
    """
    text = text.strip("'")
    volume = _VOLUME.search(text)
    if volume and text[: volume.start()].lower().endswith(NIFTI):
        kind = volume.lastgroup or ""
        if volume[kind] == _FIRST[kind]:
            return text[: volume.start()]
    return text


def refuse_same_file(table: Path, named: Sequence[Named], paths: Sequence[Path]) -> None:
    """Refuse a file that the table names twice, under whatever names.

    Raises
    ------
    DataError
        Names both lines.
    """
    first: dict[str, Named] = {}
    twice: list[tuple[Named, Named]] = []
    for each, path in zip(named, paths, strict=True):
        # Either file of a pair may be named.
        key = re.sub(r"\.hdr(\.gz)?$", r".img\1", os.path.realpath(path))
        other = first.setdefault(key, each)
        if other is not each:
            twice.append((other, each))
    if twice:
        one, other = twice[0]
        what = one.text if one.text == other.text else f"one file, as {one.text} and as {other.text}"
        msg = (
            f"{table}, lines {one.line} and {other.line} name {what}: an image would count as several "
            f"observations ({len(twice)} such line(s)). Remove one line, or correct its path."
        )
        raise DataError(msg)


def folders_of(paths: Iterable[Path], known: Iterable[Path], first: Path) -> tuple[Path, ...]:
    """Folders that hold the files that are in none of the known ones.

    Parameters
    ----------
    paths : iterable of Path
    known : iterable of Path
    first : Path
        Taken where it holds files; of others each top-level directory gives one, as deep as it can be.
    """
    roots = tuple(known)
    groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in paths:
        if not any(path.is_relative_to(root) for root in roots):
            key = first.parts if path.is_relative_to(first) else path.parts[:2]
            groups[key].append(path.parent)
    found = [first] if groups.pop(first.parts, None) else []
    return (*found, *(Path(os.path.commonpath(folders)) for _, folders in sorted(groups.items())))
