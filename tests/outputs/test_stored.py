"""What a run stores is what is read back, and damage is an error that says what to do."""

from __future__ import annotations

import pytest

from blmm_bids.errors import DataError, MissingInputError
from blmm_bids.outputs.results_file import RESULTS_FILE, read_results, store_results
from blmm_bids.outputs.stored import stored_fit
from blmm_bids.outputs.write import write_unit
from tests.outputs.synthetic import blocks, run, unit


def test_read_results__gives_back_what_was_stored(tmp_path):
    made, fit = run(tmp_path / "out", tmp_path, warnings=("beware",)), unit(tmp_path)
    result = write_unit(made, fit, blocks(fit), tmp_path / "work")
    store_results(made, [result])
    (read,) = read_results(tmp_path / "out")
    assert (read.name, read.warnings, read.command, read.elapsed) == (
        made.name,
        made.warnings,
        made.command,
        62.0,
    )
    assert read.threshold == made.threshold
    assert read.fits == (stored_fit(made, result),)
    assert read.fits[0].space == "MNI152NLin2009cAsym"


def test_read_results__of_no_run(tmp_path):
    with pytest.raises(MissingInputError, match="no finished run"):
        read_results(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"Format": 99}', '{"Format": 1, "Fits": [{}], "Run": {}}'])
def test_read_results__of_damage(tmp_path, text):
    (tmp_path / "logs").mkdir()
    (tmp_path / RESULTS_FILE).write_text(text)
    with pytest.raises(DataError, match="run the model again"):
        read_results(tmp_path)
