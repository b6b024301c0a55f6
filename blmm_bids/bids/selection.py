"""Which images are wanted: the model spec's Input block, joined with the command line's filters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from blmm_bids.bids.formats import IMAGE_EXTENSIONS, data_extension
from blmm_bids.bids.names import SHORT_NAME, long_name
from blmm_bids.errors import MissingInputError, ModelSpecError
from blmm_bids.regular_files import LARGEST_TABLE, read_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from blmm_bids.bids.levels import MapSource

ANY: Final = "*"

FILE_PARTS: Final = ("suffix", "extension", "datatype")


@dataclass(frozen=True)
class Selection:
    """What the user wants to analyse; an empty tuple leaves that part open.

    Attributes
    ----------
    entities : mapping of str to tuple of (str or None)
        Labels allowed for each entity (long or short names). ``None`` among them means that the entity
        must be absent, ``"*"`` that it must be there.
    suffix, extension, datatype : tuple of str
        ``suffix: statmap, stat: effect`` are taken where neither a suffix nor ``stat`` is given,
        those of NIfTI volumes where there is no extension.
    participant_label, exclude_participant_label, session_label : tuple of str
        With or without ``sub-`` and ``ses-``.
    input_names : frozenset of str
        Long names of the filters that come from the model spec's Input alone.
    sources : tuple of MapSource
        Lower nodes whose maps are wanted; Input is about what the lowest of them reads. Empty: it is about
        the images.
    """

    entities: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    suffix: tuple[str, ...] = ()
    extension: tuple[str, ...] = ()
    participant_label: tuple[str, ...] = ()
    exclude_participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    datatype: tuple[str, ...] = ()
    input_names: frozenset[str] = frozenset()
    sources: tuple[MapSource, ...] = ()

    def with_defaults(self) -> Selection:
        """Fill in what is taken where nothing is said, and spell every name and label in one way."""
        entities = {
            name: tuple(_bare(name, label) for label in labels)
            for name, labels in ((long_name(key), labels) for key, labels in self.entities.items())
        }
        suffix = self.suffix
        if not suffix and "stat" not in entities:
            suffix = ("statmap",)
            entities["stat"] = ("effect",)
        return replace(
            self,
            entities=entities,
            suffix=suffix,
            extension=tuple(dict.fromkeys(map(data_extension, self.extension))) or IMAGE_EXTENSIONS,
            participant_label=tuple(text.removeprefix("sub-") for text in self.participant_label),
            exclude_participant_label=tuple(
                text.removeprefix("sub-") for text in self.exclude_participant_label
            ),
            session_label=tuple(text.removeprefix("ses-") for text in self.session_label),
        )


def _bare(name: str, label: str | None) -> str | None:
    return None if label is None else label.removeprefix(f"{SHORT_NAME.get(name, name)}-")


def merge_filters(input_block: Mapping[str, Any], *filters: Mapping[str, Any]) -> dict[str, Any]:
    """Join an Input block with filters of the command line or of a ``--bids-filter-file``.

    Parameters
    ----------
    input_block : mapping
        The model spec's ``Input``.
    *filters : mapping
        Entity to label or labels; later ones replace earlier ones and the Input block. fMRIPrep's form
        of a filter file, one mapping per kind of image (``{"statmap": {"session": "01"}}``), is
        accepted where it has one mapping, or one called ``statmap`` or ``images``.

    Returns
    -------
    dict
        Keys are long entity names, ``suffix``, ``extension`` and ``datatype``.

    Raises
    ------
    ModelSpecError
        A filter file has several mappings and none that is meant for the images.
    """
    merged: dict[str, Any] = {}
    for block in (input_block, *(_flat_filter(each) for each in filters)):
        merged.update({long_name(key): value for key, value in block.items()})
    return merged


def _flat_filter(block: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = {key: value for key, value in block.items() if isinstance(value, dict)}
    if not nested:
        return block
    if len(nested) == len(block) == 1:
        return dict(next(iter(nested.values())))
    for key in ("statmap", "images"):
        if key in nested:
            return dict(nested[key])
    msg = (
        f"The filter file has the parts {', '.join(sorted(block))}; the filter of the images was expected as "
        'one flat object ({"session": "01"}) or under "statmap".'
    )
    raise ModelSpecError(msg)


def selection_from_input(
    input_block: Mapping[str, Any],
    *,
    participant_label: Sequence[str] = (),
    exclude_participant_label: Sequence[str] = (),
    session_label: Sequence[str] = (),
    filtered: Collection[str] = (),
    sources: Sequence[MapSource] = (),
) -> Selection:
    """Make a `Selection` of an Input block (see `merge_filters`).

    Parameters
    ----------
    input_block : mapping
    participant_label, exclude_participant_label, session_label : sequence of str
    filtered : collection of str
        Keys that the command line or a filter file set, which are about the images whatever the spec's nodes.
    sources : sequence of MapSource
        Lower nodes whose maps are wanted.

    Raises
    ------
    ModelSpecError
        A value is neither a label, a number, null nor a list of these.
    """
    labels = {long_name(key): _labels(key, value) for key, value in input_block.items()}
    parts = {key: tuple(str(label) for label in labels.pop(key, ()) if label) for key in FILE_PARTS}
    extension = tuple(text if text.startswith(".") else f".{text}" for text in parts["extension"])
    return Selection(
        labels,
        parts["suffix"],
        extension,
        tuple(participant_label),
        tuple(exclude_participant_label),
        tuple(session_label),
        parts["datatype"],
        frozenset(map(long_name, input_block)) - frozenset(map(long_name, filtered)),
        tuple(sources),
    )


def _labels(key: str, value: object) -> tuple[str | None, ...]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    labels: list[str | None] = []
    for each in values:
        if each is None or isinstance(each, str):
            labels.append(each)
        elif isinstance(each, int) and not isinstance(each, bool):
            labels.append(str(each))
        else:
            msg = f"Input '{key}': {each!r} is no label. Give text in quotes, or null for images without it."
            raise ModelSpecError(msg)
    return tuple(labels)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read participant labels from a file: one a line, or the first column of a participants.tsv.

    Raises
    ------
    MissingInputError
        The file cannot be read.
    """
    try:
        text = read_regular(path, LARGEST_TABLE).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"The list of participants {path} cannot be read as text: {error}."
        raise MissingInputError(msg) from error
    cells = [line.replace(",", "\t").split("\t")[0].strip() for line in text.splitlines()]
    return tuple(cell for cell in cells if cell and cell != "participant_id" and not cell.startswith("#"))
