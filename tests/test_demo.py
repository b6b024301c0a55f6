"""The demo's own parts; `make demo` runs the whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from demo import brain, compare, dataset, run_demo

if TYPE_CHECKING:
    from pathlib import Path

EFFECT_MAPS = "sub-*/ses-*/func/*_contrast-load_stat-effect_statmap.nii.gz"
# A field has variance 1 by construction; 40 draws of 37,000 correlated values come this near.
FIELD_VARIANCE_TOLERANCE = 0.05


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "dataset"
    dataset.write_dataset(root)
    return root


def test_write_dataset__has_missing_voxels_and_a_mask_for_each_image(tree: Path) -> None:
    maps = sorted(tree.glob(EFFECT_MAPS))
    assert 100 <= len(maps) <= 164
    n_present = np.zeros(brain.SHAPE)
    for path in maps:
        stem = path.name.split("_contrast-")[0]
        present = np.asarray(nib.load(path.with_name(f"{stem}_desc-brain_mask.nii.gz")).dataobj) > 0
        values = nib.load(path).get_fdata()
        assert (values[~present] == 0).all()
        n_present += present & np.isfinite(values)
    assert n_present.max() == len(maps)
    dropout = n_present[brain.voxel_at(brain.NULL_REGION[1])]
    assert len(maps) / 2 < dropout < len(maps)


def test_write_dataset__gives_the_same_values_again(tree: Path, tmp_path: Path) -> None:
    dataset.write_dataset(tmp_path / "again")
    for path in sorted(tree.glob(EFFECT_MAPS))[::20]:
        other = tmp_path / "again" / path.relative_to(tree)
        np.testing.assert_array_equal(nib.load(path).get_fdata(), nib.load(other).get_fdata())


def test_random_field__has_unit_variance() -> None:
    rng = np.random.default_rng(1)
    fields = np.stack([brain.random_field(rng) for _ in range(40)])
    assert abs(fields.var() - 1.0) < FIELD_VARIANCE_TOLERANCE


def test_planted_effects__hold_at_each_centre_and_inside_the_brain() -> None:
    planted = brain.planted_effects(dataset.COLUMNS)
    mask = brain.brain_mask()
    for sphere in brain.SPHERES:
        voxel = brain.voxel_at(sphere.centre)
        assert mask[voxel]
        assert planted[sphere.column][voxel] == sphere.effect
    assert all(effect[brain.voxel_at(brain.NULL_REGION[1])] == 0 for effect in planted.values())


def test_compare_voxels__flags_what_is_far_or_absent(tmp_path: Path) -> None:
    planted = brain.planted_effects(dataset.COLUMNS)["time"]
    far, absent = (brain.voxel_at(sphere.centre) for sphere in brain.SPHERES[:2])
    estimate = planted + 0.25
    estimate[far] += 0.3
    stderr = np.full(brain.SHAPE, 0.1)
    stderr[absent] = np.nan
    for name, values, sidecar in (
        ("task-x_param-time_stat-beta_statmap", estimate, {"RegressorName": "time"}),
        ("task-x_param-age_stat-beta_statmap", stderr, {"RegressorName": "age"}),
        ("task-x_contrast-time_stat-se_statmap", stderr, {"ContrastName": "time"}),
        ("task-x_contrast-time_stat-dof_statmap", np.full(brain.SHAPE, 30.0), {"ContrastName": "time"}),
        ("task-x_stat-n_statmap", np.full(brain.SHAPE, 9.0), {}),
    ):
        dataset.write_volume(tmp_path / f"{name}.nii.gz", values)
        (tmp_path / f"{name}.json").write_text(json.dumps(sidecar), encoding="utf-8")
    estimates = compare.read_estimates(tmp_path, ("time",))
    rows = [row for row in compare.compare_voxels(_with_other_columns(estimates), ()) if row.column == "time"]
    assert [row.is_close for row in rows] == [False, False, True]
    assert compare.format_table(tuple(rows)).count("outside 4 SE") == 2
    assert compare.coverage(estimates, "time", planted) < 1e-3
    assert compare.coverage(estimates, "time", planted + 0.1) > 1 - 1e-3


def _with_other_columns(estimates: compare.Estimates) -> compare.Estimates:
    """The same maps for every column that a sphere names."""
    return compare.Estimates(
        beta=dict.fromkeys(dataset.COLUMNS, estimates.beta["time"]),
        stderr=dict.fromkeys(dataset.COLUMNS, estimates.stderr["time"]),
        dof=dict.fromkeys(dataset.COLUMNS, estimates.dof["time"]),
        n_images=estimates.n_images,
    )


def test_read_estimates__names_the_map_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no stat-beta map of time in"):
        compare.read_estimates(tmp_path, ("time",))


def test_clear_directory__leaves_what_the_demo_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="did not make"):
        run_demo.clear_directory(tmp_path)
    assert (tmp_path / "thesis.tex").is_file()


def test_clear_directory__empties_its_own(tmp_path: Path) -> None:
    root = tmp_path / "demo-out"
    run_demo.clear_directory(root)
    (root / "results").mkdir()
    run_demo.clear_directory(root)
    assert [path.name for path in root.iterdir()] == [run_demo.MARKER]
