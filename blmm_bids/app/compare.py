"""``blmm-compare``: a likelihood ratio test between two finished runs."""

from __future__ import annotations

import logging
from pathlib import Path

from blmm_bids.errors import UsageError
from blmm_bids.outputs.compare import compare_finished
from blmm_bids.outputs.finished import read_finished, split_place
from blmm_bids.outputs.reference import write_comparison

LOGGER = logging.getLogger(__name__)


def run_compare(smaller: str, larger: str, outdir: Path) -> int:
    """Compare two finished runs; the exit code.

    Parameters
    ----------
    smaller, larger : str
        Output directories of either kind, ``DIR:NODE`` where one holds several nodes.
    outdir : Path
        Where ``blmm_vox_mask``, ``_Chi2`` and ``_Chi2lp`` go.

    Raises
    ------
    BlmmError
        The runs cannot be read, or not be compared.
    """
    outdir = outdir.absolute()
    for place in (smaller, larger):
        if outdir.exists() and split_place(place)[0].resolve() == outdir.resolve():
            msg = (
                f"OUTDIR {outdir} is one of the runs compared, whose mask it would replace; name another one"
            )
            raise UsageError(msg)
    comparison = compare_finished(read_finished(smaller), read_finished(larger))
    for notice in comparison.notices:
        LOGGER.warning("%s", notice)
    write_comparison(outdir, comparison.larger.grid, comparison.voxels, comparison.maps, comparison.notes)
    LOGGER.info(
        "'%s' adds %s to '%s': %s at %d voxels",
        comparison.larger.model.name,
        comparison.mixture.added,
        comparison.smaller.model.name,
        comparison.mixture.formula,
        comparison.voxels.size,
    )
    LOGGER.info("maps: %s", outdir)
    return 0
