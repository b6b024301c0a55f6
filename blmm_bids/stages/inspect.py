"""The data and the fit of a few voxels, read back from the working files."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blmm_bids.outputs.inspection import InspectedVoxels
from blmm_bids.outputs.parts import open_part, read_block
from blmm_bids.stages.records import Fitted
from blmm_bids.stats.model import IntArray
from blmm_bids.stats.modes import conditional_modes


def read_voxels(voxels: IntArray, fitted: Fitted) -> InspectedVoxels:
    """Read the data and the results of voxels of the analysis mask; runs on a worker.

    Parameters
    ----------
    voxels : (voxel,) int64
        Flat indices in C order; each reads its whole block of every part, so ask for few.
    fitted : Fitted
        Its parts and results must still be there.

    Raises
    ------
    StorageError
        A part or a result is missing or damaged.
    """
    prepared = fitted.prepared
    places = np.searchsorted(prepared.voxels, np.unique(voxels))
    parts = [open_part(path) for path in fitted.gathered.parts]
    rows: defaultdict[str, list[NDArray[Any]]] = defaultdict(list)
    for span in fitted.spans:
        inside = places[(places >= span.start) & (places < span.stop)] - span.start
        if not inside.size:
            continue
        keep = np.zeros(span.size, dtype=bool)
        keep[inside] = True
        y = read_block(parts, span.index, keep)
        # Results have a row for each voxel of the block that is in the mask.
        chosen = keep[fitted.keep[span.start : span.stop]]
        results = fitted.stage.load_result(span.index, ("beta", "D", "sigma2", "status"))
        results = {name: values[chosen] for name, values in results.items()}
        modes = conditional_modes(prepared.plan, y, results["D"], results["status"])
        rows["y"].append(y.astype(np.float64))
        rows["fitted"].append(y - modes.residuals)
        for name, values in results.items():
            rows[name].append(values)
    joined: dict[str, NDArray[Any]] = {name: np.concatenate(values) for name, values in rows.items()}
    return InspectedVoxels(voxels=prepared.voxels[places], **joined)
