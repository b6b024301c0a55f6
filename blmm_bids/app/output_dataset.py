"""OUTPUT_DIR as a dataset of many models: what a run may write there, and what it does to what is there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blmm_bids.app.summary import show_summary
from blmm_bids.app.troubles import Troubles
from blmm_bids.bids.names import to_label
from blmm_bids.cluster import process_usage, total_usage
from blmm_bids.config.settings import Settings
from blmm_bids.errors import OutputError
from blmm_bids.outputs.description import (
    Neighbours,
    description_files,
    model_files,
    write_description,
    write_model_files,
)
from blmm_bids.outputs.manifest import FitEntry, Manifest, fit_key, foreign_files, read_listing
from blmm_bids.outputs.ownership import (
    DESCRIPTION,
    check_apart,
    check_links,
    check_ours,
    is_ours,
    read_description,
)
from blmm_bids.outputs.results_file import RESULTS_FILE, store_results
from blmm_bids.outputs.standing import Standing, keys_replaced, standings
from blmm_bids.outputs.write import leftover_files, planned_files
from blmm_bids.report.page import write_reports
from blmm_bids.stages import prepare, result_record
from blmm_bids.stats.model import Contrast

if TYPE_CHECKING:
    from blmm_bids.app.bids_app import Unit
    from blmm_bids.cluster import Runner, Usage
    from blmm_bids.outputs.records import RunOutputs, UnitOutputs, UnitResult

LOGGER = logging.getLogger(__name__)
_SHOWN = 3
# Files of the dataset as a whole that a run's end writes.
_AT_THE_END = ("index.html", "logs/CITATION.md", "logs/CITATION.html", "logs/CITATION.bib")


def check_places(settings: Settings) -> None:
    """Refuse directories that are an input's or another pipeline's, before anything is written.

    Raises
    ------
    OutputError
        Names the directory, and one to take instead.
    """
    output_dir, work_dir = settings.output_dir, settings.work.work_dir
    bids_dir = settings.dataset.bids_dir
    # A folder of images that a table lists is no dataset: outputs may have a folder of their own in it.
    is_plain = settings.dataset.images_tsv is not None and not (bids_dir / DESCRIPTION).exists()
    inputs = {} if is_plain and output_dir.resolve() != bids_dir.resolve() else {"BIDS_DIR": bids_dir}
    inputs |= {f"the dataset of --derivatives {path}": path for _, path in settings.dataset.derivatives}
    check_apart(output_dir, "OUTPUT_DIR", inputs)
    check_apart(work_dir, "--work-dir", inputs)
    database = settings.dataset.database_dir
    if database is not None and not database.exists():
        check_apart(database.absolute(), "--bids-database-dir", inputs)
    try:
        _check_content(output_dir)
        if work_dir.is_relative_to(output_dir) and work_dir != output_dir:
            check_links(output_dir, [work_dir.relative_to(output_dir).parts[0]])
    except OSError as error:
        msg = f"OUTPUT_DIR {output_dir} cannot be written: {error.strerror or error}; name another one"
        raise OutputError(msg) from error


def _check_content(output_dir: Path) -> None:
    check_ours(output_dir)
    check_links(output_dir)
    if not is_ours(output_dir) and foreign_files(output_dir, [RESULTS_FILE]):
        msg = (
            f"{output_dir / RESULTS_FILE} is not of this software and would be replaced; take another "
            "OUTPUT_DIR"
        )
        raise OutputError(msg)


def find_neighbours(output_dir: Path, units: Sequence[Unit]) -> Neighbours:
    """Find what the run leaves as it is in OUTPUT_DIR: other models, and files of other hands."""
    listing = read_listing(output_dir)
    keys = {fit_key(to_label(unit.node.name), unit.group) for unit in units}
    kept = [fit for fit in listing.fits if fit.key not in keys]
    labels = {fit.key[0] for fit in kept}
    ours = listing.all_files | ({DESCRIPTION} if is_ours(output_dir) else set())
    there = [
        path.relative_to(output_dir).as_posix()
        for folder in (output_dir, output_dir / "logs", output_dir / "code")
        if folder.is_dir()
        for path in folder.iterdir()
    ]
    return Neighbours(
        description=read_description(output_dir) if kept and is_ours(output_dir) else {},
        models=tuple((fit.label, fit.node, fit.formula) for fit in kept),
        taken=frozenset(
            name for label, names in listing.shared.items() if label.casefold() in labels for name in names
        ),
        foreign=frozenset(name for name in there if name not in ours),
        # One image of each model tells which dataset it is of.
        images=dict(
            next(iter(fit.record.images.items())) for fit in kept if fit.record and fit.record.images
        ),
    )


@dataclass
class OutputDataset:
    """The output dataset while a run is under way.

    Attributes
    ----------
    run : RunOutputs
        The run.
    neighbours : Neighbours
        What it leaves as it is.
    found : list of Standing
        Its fits beside those that are there, in the order of the units.
    manifest : Manifest
        The list of files.
    """

    run: RunOutputs
    neighbours: Neighbours
    found: list[Standing]
    manifest: Manifest

    @classmethod
    def survey(
        cls, run: RunOutputs, units: Sequence[Unit], planned: Sequence[UnitOutputs], neighbours: Neighbours
    ) -> OutputDataset:
        """Compare what is asked for with what is there."""
        fits = [_entry(run, unit, outputs, planned) for unit, outputs in zip(units, planned, strict=True)]
        found = standings(run.output_dir, read_listing(run.output_dir), fits)
        entries = tuple(
            replace(each.fit, contrasts={**each.fit.contrasts, **each.kept_contrasts}) for each in found
        )
        return cls(run, neighbours, found, Manifest(run.output_dir, entries, keys_replaced(found)))

    def announce(self, *, overwrite: bool) -> None:
        """Log what the run does to what is there."""
        for each in self.found:
            name = f"node '{each.fit.node}'" + "".join(f", {k}-{v}" for k, v in each.fit.group.items())
            if each.is_conflict and overwrite:
                LOGGER.warning(
                    "%s: --overwrite: the model there is replaced, with its %d maps and tables; it differs "
                    "in %s", name, each.n_maps, "; ".join(each.differences),
                )  # fmt: skip
            elif each.is_conflict or each.earlier is None:
                continue
            elif added := each.added_contrasts:
                LOGGER.info("%s: contrasts are added to the same model: %s", name, _listed(added))
            elif each.earlier.finished and not each.differences:
                LOGGER.info("%s: is there, of the same model and data; its maps are made again", name)
            if kept := each.kept_contrasts:
                LOGGER.info(
                    "%s: contrasts that are there and not asked for now stay: %s", name, _listed([*kept])
                )
        if self.neighbours.models:
            others = dict.fromkeys(node for _, node, _ in self.neighbours.models)
            LOGGER.info("other models in OUTPUT_DIR stay as they are: %s", _listed([*others]))

    def refuse(self, *, overwrite: bool) -> None:
        """Refuse to replace another model's results that nobody asked to replace, and files of other hands.

        Raises
        ------
        OutputError
            Says what differs, and the ways on.
        """
        root = self.run.output_dir
        labels = list(dict.fromkeys(each.fit.label for each in self.found))
        check_links(root, [name for label in labels for name in (f"node-{label}", f"node-{label}.html")])
        conflicts = [each for each in self.found if each.is_conflict]
        if conflicts and not overwrite:
            raise OutputError(_conflict_text(root, conflicts))
        names = [name for each in self.found for name in each.fit.files]
        names += [f"node-{label}.html" for label in labels]
        foreign = foreign_files(root, names)
        if foreign:
            msg = (
                f"OUTPUT_DIR {root} has {len(foreign)} file{'s' * (len(foreign) > 1)} under names that "
                f"this run would write and that no run of this software wrote ({_listed(foreign)}); they are "
                "never replaced. Move them away, give the node another name, or name another OUTPUT_DIR"
            )
            raise OutputError(msg)

    def with_contrasts(self, unit: Unit, runner: Runner, affine_tolerance: float) -> Unit:
        """Add contrasts that an earlier run of the same model made: they stay, in table and report too."""
        kept = self._standing(to_label(unit.node.name), unit.group).kept_contrasts
        if not kept:
            return unit
        contrasts = [
            Contrast(name, np.array(each["weights"], dtype=np.float64), each["test"])
            for name, each in kept.items()
        ]
        problem, work = unit.prepared.problem, unit.prepared.work
        problem = replace(problem, contrasts=(*problem.contrasts, *contrasts))
        cut = (work.batch_obs, work.block_voxels)
        return replace(unit, prepared=prepare(problem, runner, affine_tolerance, earlier_cut=cut))

    def _standing(self, label: str, group: Mapping[str, str]) -> Standing:
        key = fit_key(label, group)
        return next(each for each in self.found if each.fit.key == key)

    def begin(self, outputs: UnitOutputs) -> None:
        """Note that the files of a fit appear now; the first time, write what describes the dataset.

        Not before there are results: until then OUTPUT_DIR may hold an earlier run's, whole.
        """
        root, fit = self.run.output_dir, self._standing(outputs.label, outputs.group).fit
        is_first = not self.manifest.has_begun
        shared = [*self.model_files, f"node-{fit.label}.html"]
        # Listed before they are there: what a killed run has written must be known as ours.
        self.manifest.share(fit.label, [root / name for name in shared])
        names = [*description_files(self.neighbours), RESULTS_FILE, *_AT_THE_END]
        self.manifest.add(root / name for name in names if name not in self.neighbours.foreign)
        self.manifest.begin(fit.key)
        if is_first:
            models = [(each.fit.label, each.fit.node, each.fit.formula) for each in self.found]
            for name in sorted({"README", ".bidsignore"} & self.neighbours.foreign):
                LOGGER.warning("%s is not of this software and stays as it is", root / name)
            write_description(self.run, models, self.neighbours)
            write_model_files(self.run, self.neighbours)

    @property
    def model_files(self) -> tuple[str, str]:
        """Where the run's settings and its model spec are, below the root."""
        return model_files(self.run, self.neighbours)

    def note(self, result: UnitResult, files: Iterable[Path]) -> None:
        """Note files that a fit has written; the list has them at its next change."""
        self.manifest.note(self._standing(result.unit.label, result.unit.group).fit.key, files)

    def share(self, directory: Path, files: Iterable[Path]) -> None:
        """Note files of a node as a whole."""
        self.manifest.share(directory.name.removeprefix("node-"), files)

    def store(self, results: Sequence[UnitResult], elapsed: float) -> None:
        """Write ``logs/results.json`` with what is there so far."""
        run = replace(self.run, elapsed=elapsed)
        store_results(run, results, self.model_files[0])

    def finish(self, results: Sequence[UnitResult], failures: Iterable[str]) -> None:
        """Mark the fits as finished, and warn of files among them that no run wrote."""
        root = self.run.output_dir
        for directory in dict.fromkeys(result.directory for result in results):
            self.share(directory, (directory / "figures").glob("*"))
        self.manifest.finish(
            [self._standing(each.unit.label, each.unit.group).fit.key for each in results], failures
        )
        listed = {root / name for name in self.manifest.listing.all_files}
        for path in leftover_files({result.directory for result in results}, listed):
            LOGGER.warning("%s is not of these results: no run of this software wrote it", path)


def close_run(
    dataset: OutputDataset,
    results: Sequence[UnitResult],
    started: float,
    usage: Usage,
    failures: Iterable[str],
    troubles: Troubles,
) -> None:
    """Write texts and pages that need all results, and log the closing lines."""
    if not results:
        return
    root = dataset.run.output_dir
    dataset.store(results, time.monotonic() - started)
    pages: list[Path] = []
    for directory in dict.fromkeys(result.directory.name for result in results):
        written = troubles.spare(
            f"report of {directory}",
            lambda d=directory: write_reports(root, None, [d]),  # type: ignore[misc]
        )
        pages += written or []
    dataset.finish(results, [*failures, *troubles.texts])
    taken = total_usage([usage, process_usage()])
    show_summary(root, results, pages, time.monotonic() - started, taken)


def _entry(run: RunOutputs, unit: Unit, outputs: UnitOutputs, others: Sequence[UnitOutputs]) -> FitEntry:
    files = planned_files(run, outputs, others)
    return FitEntry(
        label=outputs.label,
        node=outputs.node,
        group=dict(unit.group),
        files=tuple(path.relative_to(run.output_dir).as_posix() for path in files),
        record=result_record(unit.prepared, unit.built.formula_text, run.sources),
        contrasts={each.name: {"test": each.test, "weights": each.L.tolist()} for each in outputs.contrasts},
    )


def _conflict_text(root: Path, conflicts: Sequence[Standing]) -> str:
    lines = []
    for each in conflicts:
        group = "".join(f", {name}-{label}" for name, label in each.fit.group.items())
        lines.append(
            f"OUTPUT_DIR {root} holds node '{each.fit.node}'{group} of another model or other data, with "
            f"{each.n_maps} maps and tables. It differs in: {'; '.join(each.differences)}."
        )
    shown = lines[:_SHOWN] + ([f"… and {len(lines) - _SHOWN} more fits."] if len(lines) > _SHOWN else [])
    return "\n".join(
        [
            *shown,
            "Nothing was changed. To keep both, give this model another node name (Name of the node in the "
            "model spec; --node-name NAME with --formula). To replace what is there, add --overwrite.",
        ]
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
