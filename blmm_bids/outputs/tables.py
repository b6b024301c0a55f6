"""The tables beside the maps: the design, its random part, the images, the contrasts."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from blmm_bids.bids.names import LONG_NAME
from blmm_bids.outputs.files import write_json, write_text
from blmm_bids.outputs.naming import contrast_names, design_filename
from blmm_bids.outputs.uris import input_uri

if TYPE_CHECKING:
    from blmm_bids.outputs.records import RunOutputs, UnitOutputs
    from blmm_bids.stats.model import FloatArray

INPUT_COLUMNS = {
    "image": "BIDS URI of the image.",
    "masks": "BIDS URIs of the image's own masks, separated by blanks.",
    "design_row": "Row of the design table, counted from 1; n/a for an image that was not used.",
    "is_used": "Whether the image entered the fit.",
    "reason": "Why the image was not used.",
    "n_voxels_missing": "Voxels of the analysis mask without a value in this image.",
    "image_mean": "Mean of the image over the voxels where it has a value.",
    "image_sd": "Standard deviation of the image over the voxels where it has a value.",
}


# What follows the stem of the tables beside the design itself.
DESIGN_TABLES = ("random", "inputs", "contrasts")


def write_tables(run: RunOutputs, unit: UnitOutputs, directory: Path, stem: Mapping[str, str]) -> list[Path]:
    """Write the four design tables of a fit, each with a JSON sidecar of its columns.

    Returns
    -------
    list of Path
        The tables, then their sidecars; the random part is absent from a linear model.
    """
    tables = {
        "": design_table(unit),
        "random": random_table(unit),
        "inputs": inputs_table(run, unit),
        "contrasts": contrasts_table(unit),
    }
    paths, sidecars = [], []
    for desc, (table, sidecar) in tables.items():
        if desc == "random" and table.empty:
            continue
        paths.append(write_tsv(directory / design_filename(stem, desc), table))
        sidecars.append(write_json(directory / design_filename(stem, desc, ".json"), sidecar))
    return paths + sidecars


def write_tsv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as BIDS wants it: tabs, UTF-8, LF, ``n/a`` where there is no value."""
    columns = [table.iloc[:, place] for place in range(table.shape[1])]
    safe = pd.concat([_cells(column) for column in columns], axis="columns")
    safe.columns = pd.Index([_one_line(str(name)) for name in table.columns])
    text = safe.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n", quoting=csv.QUOTE_NONE)
    return write_text(path, text)


def design_table(unit: UnitOutputs) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Fixed-effects design matrix, a row an image, and its sidecar."""
    names = unit.design.fixef_names
    table = pd.DataFrame(unit.design.X, columns=list(names))
    sidecar: dict[str, Any] = {
        "Description": "Fixed-effects design matrix; a row for each image used (design_row of the inputs).",
        "ModelFormula": unit.formula,
    }
    return table, {name: {"Description": f"Regressor '{name}'."} for name in _not_shadowing(names)} | sidecar


def random_table(unit: UnitOutputs) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Random-effects design in long form: a row for each image, term and effect; and its sidecar."""
    parts = [
        pd.DataFrame(
            {
                "design_row": np.repeat(np.arange(1, unit.design.n_obs + 1), term.n_effects),
                "term": number,
                "factor": term.group,
                "level": np.repeat(np.array(term.levels, dtype=object)[term.refs], term.n_effects),
                "effect": np.tile(np.array(term.effect_names, dtype=object), unit.design.n_obs),
                "value": term.effects.ravel(),
            }
        )
        for number, term in enumerate(unit.design.terms, start=1)
    ]
    sidecar = {
        "Description": "Random-effects design in long form: the random part of an image is the sum of value "
        "times the level's effect.",
        "ModelFormula": unit.formula,
        "design_row": {"Description": "Row of the design table, counted from 1."},
        "term": {"Description": "Number of the random term in the formula; effects of one term covary."},
        "factor": {"Description": "Grouping factor."},
        "level": {"Description": "Level of the factor for this image."},
        "effect": {"Description": "Name of the random effect."},
        "value": {"Description": "Value of the effect's covariate for this image."},
    }
    return (pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()), sidecar


def inputs_table(run: RunOutputs, unit: UnitOutputs) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row an image, used or not, with its masks, entities and covariates; and its sidecar."""
    n_images = len(unit.table)
    design_row = pd.array([pd.NA] * n_images, dtype="Int64")
    n_missing = pd.array([pd.NA] * n_images, dtype="Int64")
    for number, row in enumerate(unit.rows):
        design_row[row] = number + 1
        if unit.n_missing is not None:
            n_missing[row] = int(unit.n_missing[number])
    reasons = dict(unit.dropped)
    own = pd.DataFrame(
        {
            "image": [input_uri(path, run.sources) for path in unit.paths],
            "masks": [_joined(masks, run.sources) for masks in unit.masks],
            "design_row": design_row,
            "is_used": ["true" if used else "false" for used in ~np.asarray(design_row.isna())],
            "reason": pd.array([reasons.get(row) for row in range(n_images)], dtype="object"),
            "n_voxels_missing": n_missing,
        }
    )
    for name, values in _image_columns(unit).items():
        own[name] = np.nan
        own.loc[list(unit.rows), name] = values
    covariates = unit.table.reset_index(drop=True)
    covariates = covariates.rename(columns={name: f"covariate.{name}" for name in own.columns})
    # Rows without covariates follow: counts (run, echo) shall not turn into floats for that.
    covariates = covariates.astype(dict.fromkeys(covariates.select_dtypes("integer"), "Int64"))
    table = pd.concat([own, covariates], axis="columns")
    if unit.excluded is not None and not unit.excluded.empty:
        table = pd.concat([table, _excluded_rows(run, unit.excluded)], ignore_index=True)
    sidecar: dict[str, Any] = {
        "Description": "The images that the selection found, used or not, with entities and covariates.",
        **{name: {"Description": text} for name, text in INPUT_COLUMNS.items()},
    }
    if unit.notes:
        sidecar["Notes"] = list(unit.notes)
    return table, sidecar


def contrasts_table(unit: UnitOutputs) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Contrast weights, a row a row of weights and a column a regressor; and its sidecar."""
    names = unit.design.fixef_names
    rows = []
    for contrast in unit.contrasts:
        rank = contrast_names(names, contrast).get("NumeratorDegreesOfFreedom", 1)
        for number, weights in enumerate(contrast.L, start=1):
            rows.append([contrast.name, contrast.test, rank, number, *weights.tolist()])
    own = ["name", "test", "rank", "row"]
    table = pd.DataFrame(rows, columns=[*own, *names])
    sidecar: dict[str, Any] = {
        "Description": "Contrasts as they were tested: weights of the regressors.",
        "ModelFormula": unit.formula,
        "name": {"Description": "Name of the contrast."},
        "test": {"Description": "t or F."},
        "rank": {"Description": "Rank of the contrast: the numerator degrees of freedom of F."},
        "row": {"Description": "Number of this row of weights in the contrast, from 1."},
    }
    weights = {name: {"Description": f"Weight of regressor '{name}'."} for name in _not_shadowing(names)}
    return table, weights | sidecar


def _excluded_rows(run: RunOutputs, excluded: pd.DataFrame) -> pd.DataFrame:
    paths = [input_uri(Path(path), run.sources) for path in excluded["path"]]
    return pd.DataFrame({"image": paths, "is_used": "false", "reason": excluded["reason"].to_numpy()})


def _image_columns(unit: UnitOutputs) -> dict[str, FloatArray]:
    """Numbers of each image fitted, where they are known."""
    if not unit.image_stats:
        return {}
    return {"image_mean": unit.image_stats["mean"], "image_sd": np.sqrt(unit.image_stats["variance"])}


def _joined(paths: tuple[Path, ...], sources: Mapping[str, Path]) -> str | None:
    return " ".join(input_uri(path, sources) for path in paths) or None


def _not_shadowing(names: tuple[str, ...]) -> list[str]:
    # A regressor named as an entity ('run') would make pybids refuse the dataset; its column needs no words.
    entities = {"datatype", "extension", "fmap", "scans", "suffix", *LONG_NAME.values()}
    return [name for name in names if name.casefold() not in entities]


def _cells(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):
        return column
    return column.astype(object).map(lambda value: _one_line(str(value)), na_action="ignore")


def _one_line(text: str) -> str:
    # BIDS tables have neither quotes nor escapes, so a tab or a line end cannot be inside a cell.
    return " ".join(text.split()) if set(text) & set("\t\r\n") else text
