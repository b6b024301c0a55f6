"""No value leaves the type of its map: what float32 cannot hold is kept in float64, whatever the blocks."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.outputs.precision import beyond_narrow, dtype_for, narrowed
from blmm_bids.outputs.write import write_unit
from tests.outputs.synthetic import VOXELS, results, run, unit


@pytest.mark.parametrize(
    ("value", "is_beyond"),
    [
        (0.0, False), (-0.0, False), (1.0, False), (np.nan, False), (np.inf, False), (-np.inf, False),
        (3.4e38, False), (3.5e38, True), (-1e40, True), (1.2e-38, False), (1e-38, True), (-8e-83, True),
        (5e-324, True), (1.7e308, True),
    ],
)  # fmt: skip
def test_beyond_narrow__is_what_float32_loses(value, is_beyond):
    values = np.array([1.0, value])
    assert beyond_narrow(values).tolist() == [False, is_beyond]
    assert dtype_for(values, "float32") == ("float64" if is_beyond else "float32")
    assert dtype_for(values, "int16") == "int16"
    assert narrowed(values).dtype == dtype_for(values, "float32")


def test_narrowed__pieces_put_together_are_the_whole():
    values = np.array([[np.pi, 1e-46, np.nan, 1e300, 2 / 3, 0.0]])
    whole = narrowed(values)
    np.testing.assert_array_equal(
        np.concatenate([narrowed(each) for each in values.T]).T.reshape(1, -1), whole
    )
    assert whole[0, 0] == np.float32(np.pi)
    assert whole[0, 1] == 1e-46


@pytest.mark.parametrize("size", [1, 7, 20])
@pytest.mark.parametrize("factor", [1e-46, 1e45])
def test_write_unit__keeps_values_beyond_float32(tmp_path, factor, size):
    made = unit(tmp_path / "in")
    values = results(made)
    for name in ("sigma2", "resms", "c0_variance"):
        values[name] = values[name] * factor
    values["c0_logp2"][3] = 90.0
    cut = []
    for i in range(0, len(VOXELS), size):
        block = {name: v if name == "missing" else v[i : i + size] for name, v in values.items()}
        cut.append((VOXELS[i : i + size], block))
    result = write_unit(run(tmp_path / "out", tmp_path / "in"), made, cut, tmp_path / "work")
    found = {}
    for spec in result.maps:
        image = nib.load(result.directory / spec.filename)
        found[spec.key, spec.quantity.name] = (
            image.get_data_dtype(),
            np.asarray(image.dataobj).ravel()[VOXELS],
        )
    for name in ("sigma2", "resms", "c0_variance"):
        ((dtype, inside),) = (value for (key, _), value in found.items() if key == name)
        assert dtype == np.float64
        np.testing.assert_array_equal(inside, values[name])
    dtype, q = found["c0_logp2", "fdr"]
    assert dtype == np.float64
    assert q[3] == pytest.approx(1e-90 * 19, rel=1e-10)
    assert found["c0_t", "t"][0] == np.float32
