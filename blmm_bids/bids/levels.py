"""Which maps a Dataset node reads where lower nodes, fitted elsewhere, made them.

A spec's Input selects what the lowest of these nodes reads. Of the maps of the last one it says what both
have in common (subject, task, space); what belongs to the series (run, echo, the preprocessing's desc, suffix
bold) is gone, unless the node's GroupBy keeps it. A tree may hold the maps of several levels: those of the
node are taken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.names import INDEX_ENTITIES, SHORT_NAME, long_name
from blmm_bids.errors import DataError, NoMatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from blmm_bids.bids.layout import BidsFile
    from blmm_bids.bids.selection import Selection

OF_SERIES: Final = frozenset(
    {
        "run", "echo", "acquisition", "ceagent", "reconstruction", "direction", "desc", "part", "inv", "mt",
        "flip", "proc", "mod", "recording", "staining", "tracer", "split", "chunk", "datatype", "extension",
    }
)  # fmt: skip
SERIES_SUFFIXES: Final = frozenset(
    {"bold", "cbv", "sbref", "phase", "asl", "dwi", "pet", "eeg", "ieeg", "meg", "nirs", "events"}
)
_LEVELS: Final = ("run", "session")
_SHOWN: Final = 3


@dataclass(frozen=True)
class MapSource:
    """A lower node whose maps are wanted.

    Attributes
    ----------
    name : str
        Of the node, as in the spec; its folder is ``node-<name>`` where it has one.
    entities : frozenset of str
        Long names of what its maps are told apart by: its GroupBy.
    filter : mapping of str to tuple of str
        Of the edge: entities, or columns of tables, and the labels of the maps that are read.
    """

    name: str
    entities: frozenset[str]
    filter: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ChosenMaps:
    """Maps of the wanted level.

    Attributes
    ----------
    images : tuple of BidsFile
    left_out : tuple of (BidsFile, str)
        Maps of other levels, each with the reason.
    notices : tuple of str
    """

    images: tuple[BidsFile, ...]
    left_out: tuple[tuple[BidsFile, str], ...] = ()
    notices: tuple[str, ...] = ()


def folded(name: str) -> str:
    """Letters and digits alone, without case: how names of nodes and contrasts are compared with labels."""
    return re.sub(r"[^0-9a-z]", "", name.casefold())


def maps_selection(selection: Selection, files: Iterable[BidsFile]) -> tuple[Selection, list[str]]:
    """Set aside those filters of Input that say nothing about the maps of the lower nodes.

    Parameters
    ----------
    selection : Selection
        `input_names` are the filters that come from Input alone.
    files : iterable of BidsFile
        All files of the datasets.

    Returns
    -------
    Selection
        With the filters that remain.
    list of str
        One notice, where something was set aside.
    """
    if not selection.sources:
        return selection, []
    kept = _kept_entities(selection.sources)
    aside = {name for name in selection.input_names if name in OF_SERIES - kept}
    if "suffix" in selection.input_names and set(selection.suffix) <= SERIES_SUFFIXES:
        aside.add("suffix")
    left = _without(selection, aside)
    shown = left.with_defaults()
    maps = [
        file
        for file in files
        if file.extension in shown.extension
        and (not shown.suffix or file.suffix in shown.suffix)
        and ("stat" not in shown.entities or file.entities.get("stat") in shown.entities["stat"])
    ]
    carried = {name for file in _at_level(maps, selection.sources) for name in file.entities}
    # A map's name may have no more than its node's GroupBy: FitLins leaves out even the task.
    absent = {long_name(key) for key in left.entities} & selection.input_names - carried - {"subject"}
    if carried:
        aside |= absent
        left = _without(left, absent)
    if not aside:
        return selection, []
    nodes = _node_names(selection.sources)
    return left, [
        f"Input is about what the lowest node reads: what it says of {', '.join(sorted(aside))} is not about "
        f"the maps of node {nodes} and is set aside (--bids-filter-file filters the maps themselves)"
    ]


def _at_level(maps: Sequence[BidsFile], sources: Sequence[MapSource]) -> Sequence[BidsFile]:
    """Those that may be the nodes' maps: maps of runs in the same tree carry what these need not have."""
    maps = _in_folders(maps, sources) or maps
    kept = _kept_entities(sources)
    for name in _LEVELS:
        if name not in kept:
            maps = [file for file in maps if name not in file.entities] or maps
    return maps


def _kept_entities(sources: Sequence[MapSource]) -> frozenset[str]:
    return frozenset[str]().union(*(source.entities for source in sources))


def _node_names(sources: Sequence[MapSource]) -> str:
    return " and ".join(f"'{source.name}'" for source in sources)


def _in_folders(images: Sequence[BidsFile], sources: Sequence[MapSource]) -> list[BidsFile]:
    """Those in a folder ``node-<name>`` of one of the nodes."""
    wanted = {folded(source.name) for source in sources}
    return [image for image in images if folded(image.entities.get("node", "")) in wanted]


def _without(selection: Selection, names: set[str]) -> Selection:
    return replace(
        selection,
        entities={key: value for key, value in selection.entities.items() if long_name(key) not in names},
        suffix=() if "suffix" in names else selection.suffix,
        extension=() if "extension" in names else selection.extension,
        datatype=() if "datatype" in names else selection.datatype,
    )


def choose_maps(images: Sequence[BidsFile], sources: Sequence[MapSource]) -> ChosenMaps:
    """Take the maps of the wanted nodes out of a tree that holds those of several levels.

    Parameters
    ----------
    images : sequence of BidsFile
        What the filters allow.
    sources : sequence of MapSource
        The wanted nodes; without any, all images are taken.

    Returns
    -------
    ChosenMaps

    Raises
    ------
    DataError
        All maps are of a lower level than the node's, several for each of its maps.
    """
    if not sources:
        return ChosenMaps(tuple(images))
    kept_images, notices = _filtered(images, sources)
    chosen = _of_nodes(kept_images, sources)
    chosen = replace(chosen, notices=(*notices, *chosen.notices))
    kept = _kept_entities(sources)
    for name in _LEVELS:
        level = _of_level(chosen.images, name, sources, is_kept=name in kept)
        chosen = ChosenMaps(
            level.images, (*chosen.left_out, *level.left_out), (*chosen.notices, *level.notices)
        )
    return chosen


def matches_label(name: str, label: str | None, wanted: Sequence[str]) -> bool:
    """Whether a label is among those of an edge's filter.

    Contrasts are compared by their letters and digits, since each software writes them in its own way
    (``word_gt_pseudo``, ``wordGtPseudo``); run 1 is run 01.
    """
    if label is None:
        return False
    if label in wanted:
        return True
    if name == "contrast":
        return folded(label) in {folded(each) for each in wanted}
    if name in INDEX_ENTITIES and label.isdecimal():
        return int(label) in {int(each) for each in wanted if each.isdecimal()}
    return label in {each.removeprefix(f"{SHORT_NAME.get(name, name)}-") for each in wanted}


def _filtered(images: Sequence[BidsFile], sources: Sequence[MapSource]) -> tuple[list[BidsFile], list[str]]:
    """Apply what the edges' filters say of entities; what they say of tables follows later."""
    known = {name for image in images for name in image.entities}
    wanted = [
        {name: labels for key, labels in source.filter.items() if (name := long_name(key)) in known}
        for source in sources
    ]
    kept = [
        image
        for image in images
        if any(
            all(matches_label(name, image.entities.get(name), labels) for name, labels in each.items())
            for each in wanted
        )
    ]
    if kept:
        return kept, _absent_labels(images, wanted)
    told = " or ".join(
        ", ".join(f"{name} {' or '.join(labels)}" for name, labels in each.items()) for each in wanted
    )
    names = dict.fromkeys(name for each in wanted for name in each)
    there = "; ".join(
        f"{name}: {', '.join(sorted({image.entities.get(name, '(absent)') for image in images}))}"
        for name in names
    )
    msg = (
        f"The Filter in Edges ({told}) leaves none of {len(images)} maps. There is {there}. Correct the "
        "filter, or give the dataset that has these maps."
    )
    raise NoMatchError(msg)


def _absent_labels(images: Sequence[BidsFile], wanted: Sequence[Mapping[str, Sequence[str]]]) -> list[str]:
    """Say which labels of the edges' filters no map has."""
    notices = []
    for name, labels in ((name, labels) for each in wanted for name, labels in each.items()):
        there = {image.entities.get(name) for image in images}
        absent = [label for label in labels if not any(matches_label(name, each, [label]) for each in there)]
        if absent:
            listed = ", ".join(sorted(filter(None, there)))
            notices.append(
                f"the Filter in Edges names {name} {', '.join(absent)}, which no map has (there is {listed})"
            )
    return notices


def _of_nodes(images: Sequence[BidsFile], sources: Sequence[MapSource]) -> ChosenMaps:
    """Take the maps in the folders of the wanted nodes, where there are such folders."""
    inside = _in_folders(images, sources)
    if not inside:
        return ChosenMaps(tuple(images))
    names = _node_names(sources)
    there = set(map(id, inside))
    others = [image for image in images if id(image) not in there]
    reason = f"not a map of node {names}, which the model reads"
    notices = (
        [f"{len(others)} images in other folders than those of node {names} are not used"] if others else []
    )
    return ChosenMaps(tuple(inside), tuple((image, reason) for image in others), tuple(notices))


def _of_level(
    images: Sequence[BidsFile], name: str, sources: Sequence[MapSource], *, is_kept: bool
) -> ChosenMaps:
    """Choose those with or those without an entity among maps that differ in it alone."""
    cells: dict[frozenset[tuple[str, str]], list[BidsFile]] = defaultdict(list)
    for image in images:
        cells[frozenset(item for item in image.entities.items() if item[0] not in {name, "node"})].append(
            image
        )
    node = _node_names(sources)
    has_own = is_kept or any(name not in image.entities for image in images)
    left: list[tuple[BidsFile, str]] = []
    for cell in cells.values():
        with_it = [image for image in cell if name in image.entities]
        without = [image for image in cell if name not in image.entities]
        if is_kept:
            unwanted = without if with_it else []
            reason = f"has no {name}, and the maps of node {node} have one"
        else:
            unwanted = with_it if without or len(with_it) > 1 else []
            reason = f"has a {name}, and the maps of node {node} have none: its GroupBy drops it"
        if unwanted and not has_own and len({_index(name, image) for image in with_it}) > 1:
            raise DataError(_lower_level_message(name, with_it, images, sources))
        left += [(image, reason) for image in unwanted]
    if not left:
        return ChosenMaps(tuple(images))
    gone = {id(image) for image, _ in left}
    subjects = {image.entities.get("subject") for image, _ in left}
    rest = tuple(image for image in images if id(image) not in gone)
    lost = sorted(str(subject) for subject in subjects - {image.entities.get("subject") for image in rest})
    notice = f"{len(left)} maps are of another level than node {node} and are not used: each {left[0][1]}"
    if lost:
        more = ", …" if len(lost) > _SHOWN else ""
        notice += f"; {len(lost)} subjects have no other map ({', '.join(lost[:_SHOWN])}{more})"
    return ChosenMaps(rest, tuple(left), (notice,))


def _index(name: str, image: BidsFile) -> str:
    label = image.entities[name]
    return str(int(label)) if name in INDEX_ENTITIES and label.isdecimal() else label


def _lower_level_message(
    name: str, maps: Sequence[BidsFile], images: Sequence[BidsFile], sources: Sequence[MapSource]
) -> str:
    source = sources[0]
    kept = ", ".join(sorted(source.entities))
    shown = "\n".join(f"  {image.path}" for image in maps[:2])
    label = maps[0].entities[name]
    return (
        f"The model reads the maps of node '{source.name}', whose GroupBy ({kept}) has no {name}, but all "
        f"{len(images)} maps carry one:\n{shown}\n"
        f"Maps of each {name} are no independent observations. Give the dataset with the maps of "
        f"'{source.name}'; or remove that node from the spec, so that the {name}s are what is modelled, with "
        "a random term such as (1 | subject); or choose one: "
        f'--bids-filter-file with {{"{name}": "{label}"}}.'
    )
