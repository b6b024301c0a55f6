"""One fit of a finished run, read back from the output dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blmm_bids.images.grid import Grid, read_grid
from blmm_bids.outputs.clusters import fit_map
from blmm_bids.outputs.finished import read_map, read_tsv, read_unit_design
from blmm_bids.outputs.naming import design_filename

if TYPE_CHECKING:
    import pandas as pd

    from blmm_bids.outputs.stored import StoredFit
    from blmm_bids.stats.model import Design, FloatArray


@dataclass(frozen=True, eq=False)
class ReportFit:
    """A fit as the report's sections need it.

    Attributes
    ----------
    root : Path
        The output dataset.
    stored : StoredFit
        What the run says of it.
    design : Design
        From its tables.
    inputs : DataFrame
        Table of the images, used or not; all cells are text.
    grid : Grid
        Of its maps.
    """

    root: Path
    stored: StoredFit
    design: Design
    inputs: pd.DataFrame
    grid: Grid

    @property
    def directory(self) -> Path:
        """Where its maps are."""
        return self.root / self.stored.directory

    @property
    def used(self) -> pd.DataFrame:
        """Rows of the images fitted, in the order of the design."""
        rows = self.inputs[self.inputs["is_used"] == "true"]
        return rows.iloc[rows["design_row"].astype(float).argsort(kind="stable").to_numpy()]

    @property
    def left_out(self) -> pd.DataFrame:
        """Rows of the images that were not fitted."""
        return self.inputs[self.inputs["is_used"] != "true"]

    @cached_property
    def inside(self) -> FloatArray:
        """(voxel of the grid,) 1 in the analysis mask and 0 outside."""
        mask = next(each for each in self.stored.maps if each.scope == "mask")
        return read_map(self.directory / mask.file, self.grid)

    def volume(self, file: str) -> FloatArray:
        """(x, y, z) values of a map."""
        return read_map(self.directory / file, self.grid).reshape(self.grid.shape)

    def files(self, quantity: str) -> list[str]:
        """Names of the maps of a quantity, in the registry's order."""
        return [each.file for each in self.stored.maps if each.quantity == quantity]

    def numbers(self, column: str) -> FloatArray:
        """(obs,) column of the table of inputs, NaN where there is no number."""
        if column not in self.inputs.columns:
            return np.full(len(self.used), np.nan)
        values = self.used[column].replace("n/a", "nan")
        return values.to_numpy(dtype=np.float64)


def read_fit(root: Path, stored: StoredFit) -> ReportFit:
    """Read the tables of a fit.

    Raises
    ------
    MissingInputError, DataError
        A file is missing or cannot be read.
    """
    directory = root / stored.directory
    return ReportFit(
        root=root,
        stored=stored,
        design=read_unit_design(directory, stored.stem),
        inputs=read_tsv(directory / design_filename(stored.stem, "inputs")),
        grid=read_grid(fit_map(root, stored, "n")),
    )
