"""What will be done: the work summary in the log, and the table of a dry run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from blmm_bids.bids.names import to_label
from blmm_bids.cluster import format_memory
from blmm_bids.errors import OutputError
from blmm_bids.stats.model import Status

if TYPE_CHECKING:
    from blmm_bids.app.bids_app import Unit
    from blmm_bids.cluster import Runner, Usage
    from blmm_bids.design.variables import VariableInfo
    from blmm_bids.outputs.records import UnitResult
    from blmm_bids.stats.model import Contrast

LOGGER = logging.getLogger(__name__)
# Rows of the dry run's table that a terminal is given; the file has all.
SHOWN_ROWS = 20
_WIDEST = 60
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
    output_dir: Path, results: Sequence[UnitResult], pages: Sequence[Path], seconds: float, taken: Usage
) -> None:
    """Log what came out, what it took, and where it is."""
    for result in results:
        fitted = sum(count for code, count in result.status_counts.items() if Status(code).is_fitted)
        LOGGER.info("%s: %d of %d voxels fitted", result.unit.node, fitted, len(result.unit.voxels))
        for contrast in result.contrasts:
            LOGGER.info(
                "  %s (%s): largest %.2f; %d voxels with p < 0.001, uncorrected",
                contrast.name, contrast.test, contrast.largest, contrast.n_small_p,
            )  # fmt: skip
    LOGGER.info("done in %.1f s; %s", seconds, usage_text(taken))
    for directory in dict.fromkeys(result.directory for result in results):
        LOGGER.info("maps:    %s", directory)
    for page in pages:
        LOGGER.info("report:  %s", page)
    LOGGER.info("methods: %s", output_dir / "logs" / "CITATION.md")
    LOGGER.info("log:     %s", output_dir / "logs" / "blmm_bids.log")


def usage_text(taken: Usage) -> str:
    """Say what a run took of the machine."""
    memory = format_memory(taken.peak_bytes)
    return f"CPU time {taken.cpu_seconds:.1f} s, at most {memory} in one process"


def write_dry_run(output_dir: Path, units: Sequence[Unit]) -> None:
    """Write one table a unit: a row an image, kept or dropped and why; log the variables and contrasts.

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
        for line in contrast_lines(unit.built.contrasts, unit.built.design.fixef_names):
            LOGGER.info("  %s", line)
        notes, shown = shown_table(table, unit.observations.paths, unit.observations.masks)
        for note in notes:
            LOGGER.info("  %s", note)
        LOGGER.info("%s", shown.to_string(index=False, na_rep="n/a"))
        if len(table) > SHOWN_ROWS:
            LOGGER.info("… and %d more images in the table", len(table) - SHOWN_ROWS)
        LOGGER.info("dry run: %s", path)


def contrast_lines(contrasts: Sequence[Contrast], columns: Sequence[str]) -> list[str]:
    """Write each contrast as its weights, ``older (t): 1*age - 2*sex[T.M]``, an F with ``;`` between rows."""
    lines = [
        f"{contrast.name} ({contrast.test}): {'; '.join(_sum_text(row, columns) for row in contrast.L)}"
        for contrast in contrasts[:SHOWN_ROWS]
    ]
    if len(contrasts) > SHOWN_ROWS:
        lines.append(f"… and {len(contrasts) - SHOWN_ROWS} more contrasts")
    return lines


def _sum_text(weights: Iterable[float], columns: Sequence[str]) -> str:
    parts = [
        f"{'-' if weight < 0 else '+'} {abs(weight):g}*{name}"
        for weight, name in zip(weights, columns, strict=True)
        if weight
    ]
    text = " ".join(parts).removeprefix("+ ")
    return f"-{text[2:]}" if text.startswith("- ") else text


def shown_table(
    table: pd.DataFrame, paths: Sequence[Path], masks: Sequence[Sequence[Path]]
) -> tuple[list[str], pd.DataFrame]:
    """Make the table that a terminal is given: the first rows, paths without what all of them share.

    Parameters
    ----------
    table : DataFrame
        From `image_table`.
    paths, masks : sequence
        Image and masks of each row.

    Returns
    -------
    notes : list of str
        What was cut, and the masks where all images have the same.
    shown : DataFrame
    """
    shown = table.head(SHOWN_ROWS).copy()
    for name in shown.columns.difference(shown.select_dtypes("number").columns):
        shown[name] = [_clipped(value) if isinstance(value, str) else "n/a" for value in shown[name]]
    note, shown["path"] = _without_shared("path", [[path] for path in paths])
    notes = [note]
    if not any(masks):
        notes.append("masks: no image has its own")
    elif len({tuple(each) for each in masks}) == 1:
        notes.append(f"masks: every image has {' '.join(map(str, masks[0]))}")
    else:
        note, shown["masks"] = _without_shared("masks", masks)
        return [*notes, note], shown
    return notes, shown.drop(columns="masks")


def _without_shared(name: str, rows: Sequence[Sequence[Path]]) -> tuple[str, list[str]]:
    """Cut the directory that all paths are in, and what all names end with, from the first rows."""
    paths = list(dict.fromkeys(path for row in rows for path in row))
    start = f"{os.path.commonpath([path.parent for path in paths]).rstrip(os.sep)}{os.sep}"
    names = [str(path).removeprefix(start) for path in paths]
    end = os.path.commonprefix([each[::-1] for each in names])[::-1] if len(names) > 1 else ""  # noqa: RUF071
    # Letter by letter at first; what is cut then starts at an entity, so that labels stay whole.
    end = end[end.index("_") :] if "_" in end else ""
    shown = [
        " ".join(str(path).removeprefix(start).removesuffix(end) for path in row) or "n/a"
        for row in rows[:SHOWN_ROWS]
    ]
    return f"{name}: {start}…{end}", shown


def _clipped(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def variable_text(variable: VariableInfo) -> str:
    """Say a variable's type and why, its table, its levels or range, its reference, and what is missing."""
    parts = [f"{variable.name}: {variable.kind}"]
    if variable.kind == "categorical":
        parts.append(f"reference {variable.reference}" if variable.reference else "no reference level")
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
