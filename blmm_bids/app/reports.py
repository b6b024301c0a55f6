"""Make the report, or the methods text, of a finished run again, from its outputs alone."""

from __future__ import annotations

import logging
from pathlib import Path

from blmm_bids.outputs.citation import write_citations
from blmm_bids.outputs.results_file import read_results
from blmm_bids.report.page import write_reports
from blmm_bids.stats.thresholds import Threshold

LOGGER = logging.getLogger(__name__)


def rebuild(output_dir: Path, threshold: Threshold | None, *, text_only: bool) -> int:
    """Write pages, figures and tables of clusters anew; the exit code.

    Parameters
    ----------
    output_dir : Path
        Output dataset of a finished run.
    threshold : Threshold or None
        What tables and pictures show; None for that of the run.
    text_only : bool
        Only ``logs/CITATION.*``.

    Raises
    ------
    MissingInputError, DataError
        There is no finished run, or one of its files is missing or damaged.
    OutputError, StorageError
        A file cannot be written.
    """
    if text_only:
        paths = write_citations(read_results(output_dir), threshold)
    else:
        paths = write_reports(output_dir, threshold)
    for path in paths:
        LOGGER.info("written: %s", path)
    return 0
