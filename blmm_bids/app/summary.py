"""What will be done: the work summary in the log, and the table of a dry run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from blmm_bids.bids.names import to_label
from blmm_bids.cluster import format_memory
from blmm_bids.errors import OutputError
from blmm_bids.stats.model import Status

if TYPE_CHECKING:
    from blmm_bids.app.bids_app import Unit
    from blmm_bids.cluster import Runner
    from blmm_bids.design.build import VariableInfo
    from blmm_bids.outputs.records import UnitResult

LOGGER = logging.getLogger(__name__)
# Rows of the dry run's table that a terminal is given; the file has all.
SHOWN_ROWS = 20
SHOWN_LEVELS = 20


def show_units(units: Sequence[Unit]) -> None:
    """Log what each unit fits, to what, and at what cost."""
    for unit in units:
        design, work = unit.prepared.problem.design, unit.prepared.work
        LOGGER.info("%s: %s", unit.title, unit.built.formula_text)
        LOGGER.info(
            "  images: %d used, %d dropped; X: %s (rank %d)",
            design.n_obs,
            len(unit.built.dropped),
            ", ".join(design.fixef_names),
            design.n_fixef,
        )
        for note in unit.notes:
            LOGGER.log(logging.INFO if unit.zeros.is_sure else logging.WARNING, "  %s", note)
        for term in design.terms:
            LOGGER.info(
                "  random: (%s | %s), %d levels", " + ".join(term.effect_names), term.group, term.n_levels
            )
        for variable in unit.built.variables:
            LOGGER.debug("  %s", variable_text(variable))
        LOGGER.info(
            "  work: %d candidate voxels in %d blocks, %d batches of images, %s a worker, up to %s on disk",
            work.n_voxels,
            work.n_blocks,
            work.n_batches,
            format_memory(max(work.gather_bytes, work.fit_bytes)),
            format_memory(work.disk_bytes),
        )


def show_workers(runner: Runner) -> None:
    """Log who does the work."""
    memory = format_memory(runner.bytes_per_worker)
    LOGGER.info("workers: %d, up to %s each", runner.n_workers, memory)


def show_without_images(participants: Sequence[str]) -> None:
    """Log the participants of participants.tsv that have no image."""
    if participants:
        more = ", …" if len(participants) > SHOWN_ROWS else ""
        listed = ", ".join(participants[:SHOWN_ROWS]) + more
        LOGGER.info("participants without an image: %d (%s)", len(participants), listed)


def show_summary(
    output_dir: Path, results: Sequence[UnitResult], pages: Sequence[Path], seconds: float
) -> None:
    """Log what came out, and where it is."""
    for result in results:
        fitted = sum(count for code, count in result.status_counts.items() if Status(code).is_fitted)
        LOGGER.info("%s: %d of %d voxels fitted", result.unit.node, fitted, len(result.unit.voxels))
        for contrast in result.contrasts:
            LOGGER.info(
                "  %s (%s): largest %.2f; %d voxels with p < 0.001, uncorrected",
                contrast.name, contrast.test, contrast.largest, contrast.n_small_p,
            )  # fmt: skip
    LOGGER.info("done in %.1f s", seconds)
    for directory in dict.fromkeys(result.directory for result in results):
        LOGGER.info("maps:    %s", directory)
    for page in pages:
        LOGGER.info("report:  %s", page)
    LOGGER.info("methods: %s", output_dir / "logs" / "CITATION.md")
    LOGGER.info("log:     %s", output_dir / "logs" / "blmm_bids.log")


def write_dry_run(output_dir: Path, units: Sequence[Unit]) -> None:
    """Write one table a unit: a row an image, kept or dropped and why; and log the variables.

    Raises
    ------
    OutputError
        OUTPUT_DIR cannot be written.
    """
    for unit in units:
        table = image_table(unit)
        labels = "".join(f"_{name}-{label}" for name, label in unit.group.items())
        # Below logs/, where a later run's dataset may have it.
        path = output_dir / "logs" / f"dry-run_node-{to_label(unit.node.name)}{labels}.tsv"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(path, sep="\t", na_rep="n/a", index=False)
        except OSError as error:
            msg = f"{path} cannot be written: {error.strerror or error}; name another OUTPUT_DIR"
            raise OutputError(msg) from error
        for variable in unit.built.variables:
            LOGGER.info("  %s", variable_text(variable))
        shown = table.drop(columns="masks").head(SHOWN_ROWS)
        LOGGER.info("%s", shown.to_string(index=False, na_rep="n/a", max_colwidth=60))
        if len(table) > SHOWN_ROWS:
            LOGGER.info("… and %d more images in the table", len(table) - SHOWN_ROWS)
        LOGGER.info("dry run: %s", path)


def variable_text(variable: VariableInfo) -> str:
    """Say a variable's type and why, its table, its levels or range, its reference, and what is missing."""
    parts = [f"{variable.name}: {variable.kind}"]
    if variable.reference is not None:
        parts.append(f"reference {variable.reference}")
    text = ", ".join(parts)
    if variable.kind == "date":
        text += f" ({' to '.join(variable.levels)})"
    elif variable.minimum is not None:
        text += f" ({variable.minimum:g} to {variable.maximum:g}, mean {variable.mean:.4g})"
    elif variable.levels:
        pairs = zip(variable.levels[:SHOWN_LEVELS], variable.counts[:SHOWN_LEVELS], strict=False)
        more = f", … {len(variable.levels)} levels" if len(variable.levels) > SHOWN_LEVELS else ""
        text += f" ({', '.join(f'{level}: {count}' for level, count in pairs)}{more})"
    origin = f"{variable.reason}, from {variable.table}" if variable.table else variable.reason
    images = "1 image" if variable.n_missing == 1 else f"{variable.n_missing} images"
    missing = f"; missing in {images}" if variable.n_missing else ""
    return f"{text}; {origin}{missing}" if origin else text + missing


def image_table(unit: Unit) -> pd.DataFrame:
    """One row an image: path, masks, entities and covariates, and its fate."""
    observations = unit.observations
    reasons = dict(unit.built.dropped)
    table = observations.table.copy()
    table.insert(0, "path", [str(path) for path in observations.paths])
    table.insert(1, "masks", [" ".join(str(mask) for mask in masks) or None for masks in observations.masks])
    table["status"] = ["dropped" if row in reasons else "kept" for row in range(len(table))]
    table["reason"] = [reasons.get(row) for row in range(len(table))]
    return table
