"""Applying a selection to the files of a dataset, and saying which filter left nothing."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blmm_bids.bids.formats import (
    ADVICE,
    IMAGE_EXTENSIONS,
    counted,
    image_format,
    is_read,
    join_pairs,
    refuse_halves,
    wanted_extensions,
)
from blmm_bids.bids.levels import maps_selection
from blmm_bids.bids.names import ALIASES, INDEX_ENTITIES, LONG_NAME
from blmm_bids.bids.selection import ANY, FILE_PARTS
from blmm_bids.errors import ModelSpecError, NoMatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from blmm_bids.bids.layout import BidsFile
    from blmm_bids.bids.selection import Selection

_SHOWN: Final = 12


@dataclass(frozen=True)
class _Filter:
    """One condition, as it is named in messages."""

    name: str
    wanted: tuple[str | None, ...]
    value: Callable[[BidsFile], str | None]
    keeps: Callable[[BidsFile], bool]


def _numbers(labels: Iterable[str | None]) -> set[int]:
    return {int(label) for label in labels if label and label.isdecimal()}


def _entity_filter(name: str, wanted: tuple[str | None, ...], *, said_as: str | None = None) -> _Filter:
    exact = set(wanted)
    numbers = _numbers(wanted) if name in INDEX_ENTITIES else set()

    def keeps(file: BidsFile) -> bool:
        label = file.entities.get(name)
        if label in exact or (label is not None and ANY in exact):
            return True
        return bool(numbers & _numbers([label]))

    return _Filter(said_as or name, wanted, lambda file: file.entities.get(name), keeps)


def _plain_filter(
    name: str, labels: tuple[str, ...], value: Callable[[BidsFile], str | None], *, excludes: bool = False
) -> _Filter:
    wanted = frozenset(labels)
    return _Filter(name, labels, value, lambda file: (value(file) in wanted) is not excludes)


def _filters(selection: Selection) -> list[_Filter]:
    filters = [_entity_filter(name, labels) for name, labels in selection.entities.items()]
    filters += [
        _plain_filter("suffix", selection.suffix, lambda file: file.suffix),
        _plain_filter("datatype", selection.datatype, lambda file: file.datatype),
        _entity_filter("subject", selection.participant_label, said_as="--participant-label"),
        _plain_filter(
            "--exclude-participant-label",
            selection.exclude_participant_label,
            lambda file: file.entities.get("subject"),
            excludes=True,
        ),
        _entity_filter("session", selection.session_label, said_as="--session-label"),
    ]
    return [each for each in filters if each.wanted]


def select_images(files: Iterable[BidsFile], selection: Selection) -> tuple[list[BidsFile], list[str]]:
    """Pick the images that a selection allows.

    Parameters
    ----------
    files : iterable of BidsFile
    selection : Selection

    Returns
    -------
    images : list of BidsFile
    warnings : list of str
        Filters of Input that are set aside; labels that were asked for and that no image has.

    Raises
    ------
    ModelSpecError
        The selection names an entity that neither BIDS nor the dataset knows.
    NoMatchError
        Nothing is left; the message says which filter is to blame and what there is.
    """
    files = tuple(files)
    selection, notices = maps_selection(selection, files)
    selection = selection.with_defaults()
    extensions = wanted_extensions(selection.extension)
    images, pair_notices = join_pairs(
        [file for file in files if file.extension in extensions and _is_image(file, selection)]
    )
    if not images:
        raise NoMatchError("\n".join([_no_image_message(files, selection), *_nameless_notices(files, ())]))
    try:
        kept, absent = filter_images(images, selection)
    except NoMatchError as error:
        raise NoMatchError("\n".join([str(error), *_nameless_notices(files, ())])) from error
    refuse_halves(kept)
    filters = _filters(selection)
    others = [file for file in files if file.extension not in extensions and _is_image(file, selection)]
    unread = _unread_notices(file for file in others if all(each.keeps(file) for each in filters))
    unused = [*pair_notices, *unread, *_nameless_notices(files, kept)]
    return kept, [*notices, *unused, *absent]


def filter_images(images: Sequence[BidsFile], selection: Selection) -> tuple[list[BidsFile], list[str]]:
    """Apply filters to images, whatever their names; the extension is not looked at.

    Parameters
    ----------
    images : sequence of BidsFile
    selection : Selection
        Complete: no defaults are added.

    Returns
    -------
    kept : list of BidsFile
    absent : list of str
        Labels that were asked for and that no image has.

    Raises
    ------
    ModelSpecError, NoMatchError
        As `select_images`.
    """
    _check_entity_names(selection.entities, images)
    filters = _filters(selection)
    failed = [
        (file, [index for index, each in enumerate(filters) if not each.keeps(file)]) for file in images
    ]
    kept = [file for file, blame in failed if not blame]
    if not kept:
        raise NoMatchError(_no_match_message(filters, failed))
    return kept, _absent_labels(filters, images)


def _unread_notices(files: Iterable[BidsFile]) -> list[str]:
    """Say which images of the selection are of a format that is not read."""
    endings = [(file, image_format(file.name)) for file in files]
    unread = [(file, ending) for file, ending in endings if ending is not None and not is_read(ending)]
    if not unread:
        return []
    return [
        f"{len(unread)} file(s) that match are of formats that are not read, "
        f"{counted(ending for _, ending in unread)}, the first being {unread[0][0].path}: {ADVICE}"
    ]


def _is_image(file: BidsFile, selection: Selection) -> bool:
    # Where only `stat` is asked for, a mask beside its image has it too.
    return file.suffix != "mask" or "mask" in selection.suffix


def _nameless_notices(files: Iterable[BidsFile], kept: Collection[BidsFile]) -> list[str]:
    """Say which images have a name that says nothing, and were not taken for their folder's sake."""
    used = {(file.folder, file.name) for file in kept}
    unused = [
        file.path
        for file in files
        if file.extension in IMAGE_EXTENSIONS
        and "-" not in file.name.removesuffix(file.extension)
        and (file.folder, file.name) not in used
    ]
    if not unused:
        return []
    return [
        f"{len(unused)} image file(s) have names without a BIDS entity and are not used (to use them, list "
        f"them in a table: --images TABLE.tsv), the first being {unused[0]}"
    ]


def _check_entity_names(entities: Iterable[str], images: Iterable[BidsFile]) -> None:
    seen = {name for file in images for name in file.entities}
    known = {*LONG_NAME.values(), *LONG_NAME, *ALIASES, *FILE_PARTS, *seen}
    for name in entities:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            msg = (
                f"Input filters on '{name}', which is no BIDS entity.{hint} "
                f"The images have {', '.join(sorted(seen)) or 'no entities'}."
            )
            raise ModelSpecError(msg)


def _quoted(labels: Iterable[str | None]) -> str:
    return ", ".join("null (absent)" if label is None else f"'{label}'" for label in labels)


def _shown(values: Collection[str | None]) -> str:
    ordered = sorted(values, key=lambda value: (value is None, value or ""))
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join("(absent)" if value is None else value for value in ordered[:_SHOWN]) + more


def _padding_hint(wanted: Iterable[str | None], values: Collection[str | None]) -> str:
    for label in wanted:
        for value in values:
            if label and value and label != value and label.lstrip("0") == value.lstrip("0"):
                return f" (labels are text: '{value}' is not '{label}')"
    return ""


def _no_image_message(files: Sequence[BidsFile], selection: Selection) -> str:
    *others, last = selection.extension
    asked = f"{', '.join(others)} or {last}" if others else last
    rest = [file for file in files if file.extension not in selection.extension]
    counts = Counter(file.extension for file in rest if file.extension)
    listed = ", ".join(f"{extension} ({count})" for extension, count in counts.most_common(_SHOWN))
    message = (
        f"No image with the extension {asked} and a name that follows BIDS was found; "
        f"there is {listed or 'no other file either'}. Check that BIDS_DIR or --derivatives names the "
        "directory with the images, and 'extension' in the model spec's Input."
    )
    if n_masks := len(files) - len(rest):
        message += f" {n_masks} masks are no images unless 'suffix' names them."
    if any((ending := image_format(file.name)) and not is_read(ending) for file in rest):
        message += f" Of other formats: {ADVICE}."
    return message


def _no_match_message(filters: Sequence[_Filter], failed: Sequence[tuple[BidsFile, list[int]]]) -> str:
    alone = Counter(blame[0] for _, blame in failed if len(blame) == 1)
    lines = [f"No image matches all filters; there are {len(failed)} images."]
    for index, each in enumerate(filters):
        passed = sum(index not in blame for _, blame in failed)
        line = f"  {each.name} {_quoted(each.wanted)}: {passed} images pass"
        if passed < len(failed):
            # What the other filters leave is what the user can choose from.
            others = [file for file, blame in failed if set(blame) <= {index}]
            values = {each.value(file) for file in others or (file for file, _ in failed)}
            line += f"; there is {_shown(values)}{_padding_hint(each.wanted, values)}"
        if alone[index]:
            line += f"  <- without this filter {alone[index]} images would match"
        lines.append(line)
    lines.append("Change or remove the filter in the model spec's Input or on the command line.")
    return "\n".join(lines)


def _absent_labels(filters: Iterable[_Filter], images: Sequence[BidsFile]) -> list[str]:
    warnings = []
    for each in filters:
        values = {each.value(file) for file in images}
        numbers = _numbers(values) if each.name in INDEX_ENTITIES else set()
        absent = [
            label
            for label in each.wanted
            if label not in {None, ANY} and label not in values and not _numbers([label]) & numbers
        ]
        if absent:
            warnings.append(
                f"{each.name}: no image has {_quoted(absent)}{_padding_hint(absent, values)}; "
                f"there is {_shown(values)}"
            )
    return warnings
