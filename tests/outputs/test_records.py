"""Records check their lengths at the door."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.errors import DataError
from tests.outputs.synthetic import unit


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rows": (0, 1)}, "'rows'"),
        ({"paths": ()}, "'paths'"),
        ({"masks": ((),)}, "'masks'"),
        ({"n_missing": np.zeros(3, dtype=np.int64)}, "'n_missing'"),
        ({"voxels": np.array([3, 1])}, "ascending"),
    ],
)
def test_unit_outputs__refuses_what_does_not_fit_together(tmp_path, changes, named):
    with pytest.raises(DataError, match=named):
        unit(tmp_path, **changes)


def test_unit_outputs__has_a_label_for_its_directory(tmp_path):
    assert unit(tmp_path).label == "groupModel"
