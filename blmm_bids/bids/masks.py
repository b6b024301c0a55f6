"""Finding the masks that come with each image."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from blmm_bids.bids.formats import IMAGE_EXTENSIONS
from blmm_bids.bids.names import long_name
from blmm_bids.bids.roots import read_json
from blmm_bids.errors import InvalidBIDSError, MissingInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from blmm_bids.bids.layout import BidsFile
    from blmm_bids.bids.roots import Root

# Entities of the statistic itself: nilearn writes one `_mask` for all statistics of a model.
_STATISTIC: Final = frozenset({"contrast", "param", "stat"})
_SPATIAL: Final = frozenset({"space", "cohort"})


@lru_cache(maxsize=4096)
def _folders_up(folder: str, root: str) -> tuple[str, ...]:
    if folder in {root, ""}:
        return (root,)
    parent, _, _ = folder.rpartition(os.sep)
    return (folder, *_folders_up(parent, root))


class Sidecars:
    """JSON metadata of files, by the inheritance principle.

    Parameters
    ----------
    files : iterable of BidsFile
        All files of the datasets, from which the sidecars are taken.
    """

    def __init__(self, files: Iterable[BidsFile]) -> None:
        self._in_folder: dict[tuple[str, str], list[BidsFile]] = defaultdict(list)
        self._parsed: dict[tuple[str, str], dict[str, Any]] = {}
        for file in files:
            if file.extension == ".json":
                self._in_folder[file.folder, file.suffix].append(file)

    def applicable(self, image: BidsFile) -> Iterator[BidsFile]:
        """Sidecars of an image, the nearest first; in one folder those with the most entities first."""
        for folder in _folders_up(image.folder, str(image.root)):
            found = [
                file
                for file in self._in_folder.get((folder, image.suffix), ())
                if file.entities.items() <= image.entities.items()
            ]
            yield from sorted(found, key=lambda file: (-len(file.entities), file.name))

    def lookup(self, image: BidsFile, key: str) -> tuple[Any, Path] | None:
        """Value of a metadata key, and the sidecar that gives it."""
        for file in self.applicable(image):
            place = file.folder, file.name
            if place not in self._parsed:
                self._parsed[place] = read_json(file.path)
            if key in self._parsed[place]:
                return self._parsed[place][key], file.path
        return None


@dataclass(frozen=True)
class _MaskFile:
    file: BidsFile
    entities: frozenset[tuple[str, str]]


class MaskFinder:
    """Finds masks: the sidecar's ``Mask``, else the same stem, else ``desc-brain`` masks.

    Parameters
    ----------
    roots : sequence of Root
        Datasets by name, for BIDS URIs.
    files : sequence of BidsFile
        All files of the datasets that hold images.
    mask_filter : mapping of str to tuple of str, optional
        Entities and labels, as ``Options.Mask`` of a model spec has them: masks that have these, and no other
        entities than the image's besides, come before all others.
    """

    def __init__(
        self,
        roots: Sequence[Root],
        files: Sequence[BidsFile],
        mask_filter: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._roots = {root.path: root for root in roots}
        self._named = {root.name: root.path for root in roots}
        self._sidecars = Sidecars(files)
        masks = [file for file in files if file.suffix == "mask" and file.extension in IMAGE_EXTENSIONS]
        self._beside: dict[str, list[_MaskFile]] = defaultdict(list)
        self._brain: dict[str | None, list[_MaskFile]] = defaultdict(list)
        self._filter = {long_name(key): labels for key, labels in (mask_filter or {}).items()}
        self.n_unfiltered = 0
        self._named_masks: dict[str | None, list[_MaskFile]] = defaultdict(list)
        for file in masks:
            about = _MaskFile(file, frozenset(_without(file.entities, {"node"}).items()))
            self._beside[file.folder].append(about)
            subject = file.entities.get("subject")
            if file.entities.get("desc") == "brain":
                bare = frozenset(_without(file.entities, {"node", "desc"}).items())
                self._brain[subject].append(_MaskFile(file, bare))
            if self._filter and all(file.entities.get(key) in labels for key, labels in self._filter.items()):
                rest = frozenset(_without(file.entities, {"node", *self._filter}).items())
                self._named_masks[subject].append(_MaskFile(file, rest))
        brain = [mask.file for group in self._brain.values() for mask in group]
        self._names_space = {mask.root for mask in brain if _SPATIAL & mask.entities.keys()}
        self._has_functional = {mask.root for mask in brain if mask.datatype == "func"}

    def masks_of(self, image: BidsFile) -> tuple[Path, ...]:
        """Masks of an image, all of which apply.

        Raises
        ------
        MissingInputError
            The sidecar names a mask that does not exist.
        InvalidBIDSError
            The sidecar's ``Mask`` is no path.
        """
        if self._filter:
            if chosen := self._subset_masks(self._named_masks, image):
                return chosen
            self.n_unfiltered += 1
        declared = self._sidecars.lookup(image, "Mask")
        if declared is not None and declared[0] not in (None, "", []):
            value, sidecar = declared
            values = value if isinstance(value, list) else [value]
            return tuple(dict.fromkeys(self._resolve(each, sidecar, image) for each in values))
        return self._same_stem(image) or self._subset_masks(self._brain, image)

    def _resolve(self, value: object, sidecar: Path, image: BidsFile) -> Path:
        if not isinstance(value, str):
            msg = f"{sidecar}: 'Mask' is {value!r}, but a BIDS URI or a relative path was expected."
            raise InvalidBIDSError(msg)
        tried = self._candidates(value, sidecar, image)
        for path in tried:
            if path.exists():
                return path
        msg = (
            f"{sidecar}: 'Mask' names {value}, which does not exist (looked for "
            f"{', '.join(str(path) for path in tried) or 'a dataset of that name'}). Correct the sidecar, "
            "name the dataset with --derivatives NAME=PATH, or use --input-masks none."
        )
        raise MissingInputError(msg)

    def _candidates(self, value: str, sidecar: Path, image: BidsFile) -> list[Path]:
        if not value.startswith("bids:"):
            folders = [image.root, sidecar.parent]
            subject = image.entities.get("subject")
            if subject is not None:
                folders.append(image.root / f"sub-{subject}")
            return list(dict.fromkeys(folder / value for folder in folders))
        name, _, relative = value.removeprefix("bids:").partition(":")
        relative = unquote(relative).lstrip("/")
        if not name:
            return [image.root / relative]
        linked = self._roots[image.root].linked_path(name)
        folders = [folder for folder in (linked, self._named.get(name)) if folder is not None]
        return [folder / relative for folder in folders]

    def _same_stem(self, image: BidsFile) -> tuple[Path, ...]:
        own = _without(image.entities, {"node"}).items()
        beside = self._beside.get(image.folder, ())
        exact = [mask.file.path for mask in beside if mask.entities == own]
        if exact:
            return tuple(sorted(exact))
        shared = _without(image.entities, {"node", *_STATISTIC}).items()
        return tuple(sorted(mask.file.path for mask in beside if mask.entities == shared))

    def _subset_masks(
        self, masks: Mapping[str | None, Sequence[_MaskFile]], image: BidsFile
    ) -> tuple[Path, ...]:
        """Masks that have no other entities than the image's, but those that made them candidates."""
        own = image.entities.items()
        candidates = (*masks.get(image.entities.get("subject"), ()), *masks.get(None, ()))
        found = {
            mask.file.path
            for mask in candidates
            if mask.entities <= own and self._on_image_grid(mask.file, image)
        }
        return tuple(sorted(found))

    def _on_image_grid(self, mask: BidsFile, image: BidsFile) -> bool:
        """Tell masks of the image's grid from native and anatomical ones that merely name fewer entities."""
        if mask.root in self._names_space and "space" in image.entities and "space" not in mask.entities:
            return False
        return not (
            mask.datatype == "anat" and "task" in image.entities and mask.root in self._has_functional
        )


def _without(entities: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: label for name, label in entities.items() if name not in names}
