"""Block results become volumes, whatever the blocks."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.errors import OutputError, StorageError
from blmm_bids.outputs.maps import gather_maps, scratch_array, volume_of, write_maps
from blmm_bids.outputs.summary import Tally
from blmm_bids.outputs.write import unit_maps, write_unit
from tests.outputs.synthetic import SHAPE, VOXELS, blocks, results, run, unit

STEM = "task-nback_run-1_space-MNI152NLin2009cAsym_contrast-faces"


@pytest.fixture
def written(tmp_path):
    made = unit(tmp_path / "in")
    return made, write_unit(run(tmp_path / "out", tmp_path / "in"), made, blocks(made), tmp_path / "work")


def load(result, name):
    return nib.load(result.directory / f"{name}.nii.gz")


@pytest.mark.parametrize(
    ("name", "dtype", "key", "column"),
    [
        ("_stat-sigma2_statmap", "float32", "sigma2", None),
        ("_stat-logLikelihood_statmap", "float64", "logLikelihood", None),
        ("_stat-n_statmap", "int32", "n", None),
        ("_stat-iterations_statmap", "int32", "iterations", None),
        ("_stat-status_statmap", "int16", "status", None),
        ("_param-sexTM_stat-beta_statmap", "float32", "beta", (2,)),
        ("_param-subject+Intercept+age_stat-D_statmap", "float32", "D", (1,)),
        ("_param-age+sexTM_stat-covbeta_statmap", "float32", "vcov", (1, 2)),
        ("AgeEffect_stat-t_statmap", "float32", "c0_t", None),
        ("Any_stat-partialR2_statmap", "float32", "c1_partialR2", None),
    ],
)
def test_write_unit__puts_each_value_at_its_voxel(written, name, dtype, key, column):
    made, result = written
    image = load(result, STEM + name)
    values = results(made)[key]
    if column is not None:
        values = values[(slice(None), *column)]
    assert image.get_data_dtype() == dtype
    flat = np.asanyarray(image.dataobj).ravel()
    np.testing.assert_array_equal(flat[VOXELS], values.astype(dtype))
    assert not np.delete(flat, VOXELS).any()


def test_write_unit__marks_voxels_without_an_answer(written):
    _, result = written
    assert np.isnan(load(result, f"{STEM}_stat-sigma2_statmap").get_fdata().flat[0])
    assert load(result, f"{STEM}_stat-status_statmap").get_fdata().flat[0] == 3
    assert load(result, f"{STEM}_stat-n_statmap").get_fdata().flat[0] == 2
    mask = load(result, f"{STEM}_desc-analysis_mask")
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.flatnonzero(mask.get_fdata()), VOXELS)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_write_unit__gives_equal_bytes_for_any_blocks(tmp_path, written, size):
    made, first = written
    again = write_unit(
        run(tmp_path / "again", tmp_path / "in"), made, blocks(made, size), tmp_path / "elsewhere"
    )
    assert [path.name for path in again.files] == [path.name for path in first.files]
    for one, other in zip(first.files, again.files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert again.status_counts == first.status_counts == {0: 19, 3: 1}
    assert again.contrasts == first.contrasts


def test_write_unit__counts_what_the_report_shows(written):
    made, result = written
    values = results(made)
    summary = result.contrasts[0]
    assert summary.largest == np.nanmax(np.abs(values["c0_t"]))
    assert summary.n_voxels == 19
    assert summary.n_small_p == np.sum(values["c0_logp2"] > 3)


def test_write_unit__writes_a_linear_model_without_an_input_contrast(tmp_path):
    from tests.outputs.synthetic import design

    made = unit(tmp_path, design=design(terms=False), group={}, contrasts=())
    result = write_unit(run(tmp_path / "out", tmp_path), made, blocks(made), tmp_path / "work")
    names = {path.name for path in result.files}
    assert "task-nback_run-1_space-MNI152NLin2009cAsym_stat-sigma2_statmap.nii.gz" in names
    assert not any("stat-D" in name or "random" in name for name in names)


def test_write_unit__adds_standard_deviations_correlations_and_icc_when_full(tmp_path):
    from tests.outputs.synthetic import design

    options = replace(unit(tmp_path).output_options, level="full")
    made = unit(tmp_path, design=design(slopes=False), output_options=options)
    result = write_unit(run(tmp_path / "out", tmp_path), made, blocks(made), tmp_path / "work")
    values = results(made)
    icc = load(result, f"{STEM}_param-subject_stat-icc_statmap").get_fdata().ravel()[VOXELS]
    D = values["D"][:, 0]
    np.testing.assert_allclose(icc, D / (1 + D), rtol=1e-6)
    sd = load(result, f"{STEM}_param-subject+Intercept+Intercept_stat-varcorr_statmap").get_fdata()
    np.testing.assert_allclose(sd.ravel()[VOXELS], np.sqrt(values["sigma2"] * D), rtol=1e-6)


@pytest.mark.parametrize("has_one_dof", [True, False])
def test_write_unit__states_dof_in_the_header_only_where_they_are_constant(tmp_path, has_one_dof):
    made = unit(tmp_path)
    values = results(made)
    if has_one_dof:
        values["c0_dof"][1:] = values["c1_dof"][1:] = 9.0
    result = write_unit(run(tmp_path / "out", tmp_path), made, [(VOXELS, values)], tmp_path / "work")
    t_map = load(result, f"{STEM}AgeEffect_stat-t_statmap")
    f_map = load(result, f"{STEM}Any_stat-F_statmap")
    if has_one_dof:
        assert t_map.header.get_intent() == ("t test", (9.0,), "t")
        assert f_map.header.get_intent() == ("f test", (2.0, 9.0), "F")
    else:
        assert t_map.header.get_intent() == ("none", (), "t")
        assert f_map.header.get_intent() == ("none", (), "F")
    assert load(result, f"{STEM}AgeEffect_stat-z_statmap").header.get_intent()[0] == "z score"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts[1:], "have no result"),
        (lambda parts: [*parts, parts[0]], "another block"),
        (lambda parts: [(parts[0][0] + 1, parts[0][1]), *parts[1:]], "none of the mask's"),
        (lambda parts: [(voxels, {"status": block["status"]}) for voxels, block in parts], "gave no 'n'"),
    ],
)
def test_gather_maps__refuses_results_that_do_not_cover_the_mask_once(tmp_path, change, message):
    made = unit(tmp_path)
    parts = change(list(blocks(made)))
    with pytest.raises(OutputError, match=message):
        write_unit(run(tmp_path / "out", tmp_path), made, parts, tmp_path / "work")


def test_scratch_array__leaves_nothing_behind_and_takes_no_room_for_nothing(tmp_path):
    with scratch_array(tmp_path, (2, 3)) as values:
        values[:] = 1
        assert values.sum() == 6
    with scratch_array(tmp_path, (2, 0)) as values:
        assert values.shape == (2, 0)
    assert list(tmp_path.iterdir()) == []


def test_scratch_array__names_a_directory_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="work directory"), scratch_array(tmp_path / "file", (1, 1)):
        pass


def test_gather_maps__reads_no_more_than_a_block_at_a_time(tmp_path):
    made = unit(tmp_path)
    alive = 0

    def counted():
        nonlocal alive
        for voxels, block in blocks(made, 5):
            alive += 1
            assert alive == 1
            yield voxels, block
            alive -= 1

    specs = unit_maps(made)
    values = np.empty((len(specs) - 1, len(VOXELS)))
    gather_maps(specs, VOXELS, counted(), made.design.terms, values, Tally(made.contrasts))
    assert len(write_maps(tmp_path / "maps", specs, made.grid, VOXELS, values)) == len(specs)


def test_write_unit__writes_an_empty_mask(tmp_path):
    made = unit(tmp_path, voxels=np.empty(0, dtype=np.int64))
    result = write_unit(run(tmp_path / "out", tmp_path), made, [], tmp_path / "work")
    assert not load(result, f"{STEM}_desc-analysis_mask").get_fdata().any()
    assert result.status_counts == {}


def test_volume_of__is_float64_where_values_are_beyond_float32():
    volume = volume_of(np.array([1e300, -1e300]), np.array([0, 59]), SHAPE, "float32")
    assert volume.flat[0] == 1e300
    assert volume.flat[59] == -1e300
