"""Checks that every image is an observation of its own, comparable with the others."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.names import INDEX_ENTITIES, entity_rank
from blmm_bids.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Sequence

    from blmm_bids.bids.layout import BidsFile

# Images that differ in one of these cannot be observations of one model, whatever the formula says.
_UNIFORM: Final = {
    "space": "on different grids",
    "cohort": "on different grids",
    "res": "on different grids",
    "den": "on different grids",
    "stat": "different quantities",
}


def sort_images(images: Iterable[BidsFile]) -> list[BidsFile]:
    """Order by entities, subject first, so that the order of rows depends on names alone."""
    listed = list(images)
    names = sorted({name for image in listed for name in image.entities}, key=entity_rank)

    def key(image: BidsFile) -> tuple[tuple[tuple[int, str], ...], str]:
        labels = image.entities
        ranked = tuple(_sortable(name, labels[name]) if name in labels else (0, "") for name in names)
        return ranked, f"{image.folder}/{image.name}"

    return sorted(listed, key=key)


def _sortable(name: str, label: str) -> tuple[int, str]:
    return (int(label) + 1, label) if name in INDEX_ENTITIES and label.isdecimal() else (1, label)


def check_cells(images: Sequence[BidsFile], group_by: Collection[str] = ()) -> None:
    """Refuse images that are no observations of one model.

    Parameters
    ----------
    images : sequence of BidsFile
    group_by : collection of str
        GroupBy entities (long names): images of different groups are not compared.

    Raises
    ------
    DataError
        Two images with equal entities; images of a subject side by side with and without an entity;
        several spaces, resolutions or statistics.
    """
    _check_side_by_side(images, group_by)
    _check_uniform(images, group_by)
    _check_duplicates(images)


def _name_list(paths: Iterable[BidsFile]) -> str:
    return "\n".join(f"  {image.path}" for image in paths)


def _check_side_by_side(images: Sequence[BidsFile], group_by: Collection[str]) -> None:
    subjects: dict[tuple[str | None, ...], list[BidsFile]] = defaultdict(list)
    for image in images:
        subjects[image.entities.get("subject"), *(image.entities.get(name) for name in group_by)].append(
            image
        )
    names = sorted({name for image in images for name in image.entities} - {"node"}, key=entity_rank)
    groups = [subject for subject in subjects.values() if len(subject) > 1]
    for name in names:
        for subject in groups:
            _check_entity(name, subject, images)


def _check_entity(name: str, subject: Sequence[BidsFile], images: Sequence[BidsFile]) -> None:
    having = next((image for image in subject if name in image.entities), None)
    lacking = next((image for image in subject if name not in image.entities), None)
    if having is None or lacking is None:
        return
    labels = sorted({image.entities[name] for image in images if name in image.entities})
    shown = ", ".join(f'"{label}"' for label in labels[:5])
    msg = (
        f"Some images of sub-{having.entities.get('subject')} carry '{name}', others lack it:\n"
        f"{_name_list((having, lacking))}\n"
        f'Say in the model spec\'s Input which are meant: "{name}": null (those without it), '
        f'or "{name}": [{shown}] (those with it).'
    )
    if having.entities.get("node") != lacking.entities.get("node"):
        msg += f" Or choose a directory: {_node_filters((having, lacking))}."
    raise DataError(msg)


def _node_filters(images: Iterable[BidsFile]) -> str:
    nodes = dict.fromkeys(image.entities.get("node") for image in images)
    return " or ".join(_filter_text("node", node) for node in nodes)


def _filter_text(name: str, label: str | None) -> str:
    return f'"{name}": null' if label is None else f'"{name}": "{label}"'


def _check_uniform(images: Sequence[BidsFile], group_by: Collection[str]) -> None:
    for name, why in _UNIFORM.items():
        if name in group_by:
            continue
        groups: dict[tuple[str | None, ...], dict[str | None, BidsFile]] = defaultdict(dict)
        for image in images:
            group = groups[tuple(image.entities.get(entity) for entity in group_by)]
            group.setdefault(image.entities.get(name), image)
        for found in groups.values():
            if len(found) > 1:
                filters = " or ".join(_filter_text(name, label) for label in list(found)[:4])
                msg = (
                    f"The images have {len(found)} values of '{name}', so they are {why}:\n"
                    f"{_name_list(list(found.values())[:4])}\n"
                    f"Choose one in the model spec's Input: {filters} (or name '{name}' in GroupBy)."
                )
                raise DataError(msg)


def _check_duplicates(images: Sequence[BidsFile]) -> None:
    first: dict[Hashable, BidsFile] = {}
    for image in images:
        cell = frozenset(
            (name, str(int(label)) if name in INDEX_ENTITIES and label.isdecimal() else label)
            for name, label in image.entities.items()
            if name != "node"
        )
        other = first.setdefault(cell, image)
        if other is image:
            continue
        msg = (
            "Two images have the same entities, so they would count as one observation twice:\n"
            f"{_name_list((other, image))}\nRemove one, or choose with a filter in the model spec's Input: "
        )
        raise DataError(msg + _choice(other, image))


def _choice(first: BidsFile, second: BidsFile) -> str:
    if first.entities.get("node") != second.entities.get("node"):
        return _node_filters((first, second)) + "."
    if first.suffix != second.suffix:
        return f'"suffix": "{first.suffix}" or "suffix": "{second.suffix}".'
    if first.extension != second.extension:
        return f'"extension": "{first.extension}" or "extension": "{second.extension}".'
    if first.root != second.root:
        return f"name only one of {first.root} and {second.root} with --derivatives."
    return "none tells them apart, so one must go."
