"""What a run would do to the models that OUTPUT_DIR holds: add, write again, replace, or be refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blmm_bids.outputs.changes import find_changes
from blmm_bids.outputs.manifest import FitEntry, own_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from blmm_bids.outputs.manifest import Group, Listing

_SHOWN = 8
_MAP_ENDS = (".nii.gz", ".gii", ".nii", ".tsv")


@dataclass(frozen=True)
class Standing:
    """One fit beside what is there of its node.

    Attributes
    ----------
    fit : FitEntry
        As it is asked for.
    earlier : FitEntry or None
        The same fit as it is there.
    differences : tuple of str
        What keeps the two from being one model of one set of data, a phrase each.
    replaced : tuple of FitEntry
        Fits that are there and would have to go.
    n_maps : int
        Files of these that are there.
    """

    fit: FitEntry
    earlier: FitEntry | None
    differences: tuple[str, ...] = ()
    replaced: tuple[FitEntry, ...] = ()
    n_maps: int = 0

    @property
    def is_conflict(self) -> bool:
        """Whether results are there that only an explicit wish may replace."""
        return bool(self.differences) and self.n_maps > 0

    @property
    def kept_contrasts(self) -> dict[str, Any]:
        """Contrasts of the same model that are there and were not asked for now."""
        if self.earlier is None or self.differences:
            return {}
        now = self.fit.contrasts
        return {name: each for name, each in self.earlier.contrasts.items() if name not in now}

    @property
    def added_contrasts(self) -> list[str]:
        """Contrasts that the same model has not had so far."""
        if self.earlier is None or self.differences:
            return []
        return [name for name in self.fit.contrasts if name not in self.earlier.contrasts]


def standings(output_dir: Path, listing: Listing, fits: Sequence[FitEntry]) -> list[Standing]:
    """Compare what is asked for with what is there, fit by fit.

    Parameters
    ----------
    output_dir : Path
        Root of the output dataset.
    listing : Listing
        What it holds.
    fits : sequence of FitEntry
        What is asked for.
    """
    return [_standing(output_dir, listing, fit) for fit in fits]


def _standing(output_dir: Path, listing: Listing, fit: FitEntry) -> Standing:
    of_node = [each for each in listing.fits if each.key[0] == fit.key[0]]
    earlier = listing.fit(fit.key)
    differences: list[str] = []
    gone: list[FitEntry] = []
    if earlier is not None and (found := _differences(earlier, fit)):
        differences += found
        gone.append(earlier)
    # Groups of other labels are other fits of the node, groups by other entities another model.
    regrouped = [each for each in of_node if set(each.group) != set(fit.group)]
    if regrouped:
        differences.append(
            "its record is of an earlier version of this software, which kept no model"
            if any(each.record is None for each in regrouped)
            else f"GroupBy ({_entities(regrouped[0].group)} before, now {_entities(fit.group)})"
        )
        gone += regrouped
    n_maps = sum(_is_result(output_dir, name) for each in gone for name in each.files)
    return Standing(fit, earlier, tuple(differences), tuple(gone), n_maps)


def _differences(before: FitEntry, now: FitEntry) -> list[str]:
    if before.record is None or now.record is None:
        return ["it is of an earlier version of this software, which kept no record of its model"]
    texts = [] if before.node == now.node else [f"the node's name ('{before.node}' before, now '{now.node}')"]
    texts += find_changes(before.record, now.record).texts
    others = [
        name
        for name, contrast in now.contrasts.items()
        if name in before.contrasts and before.contrasts[name] != contrast
    ]
    if others and not texts:
        texts.append(f"the weights of {', '.join(others[:_SHOWN])}{', …' if len(others) > _SHOWN else ''}")
    return texts


def _is_result(output_dir: Path, name: str) -> bool:
    path = own_path(output_dir, name)
    return path is not None and name.endswith(_MAP_ENDS) and path.is_file()


def _entities(group: Mapping[str, str]) -> str:
    return ", ".join(group) or "none"


def keys_replaced(found: Sequence[Standing]) -> frozenset[tuple[str, Group]]:
    """Keys of all fits that have to go."""
    return frozenset(fit.key for each in found for fit in each.replaced)
