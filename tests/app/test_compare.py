"""``blmm-compare`` and ``CompareWith``: the same likelihood ratio test from either side."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from blmm_bids.cli import main, main_compare

LMER = {"slopes": -871.81413598, "intercepts": -893.23254270}


def node(name, formula, **blmm):
    return {
        "Level": "Dataset",
        "Name": name,
        "GroupBy": [],
        "Model": {"Type": "glm", "X": [1], "Formula": formula, "Software": {"blmm": blmm}},
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shared_data):
    """Three nested models of sleepstudy, compared within the run."""
    folder = tmp_path_factory.mktemp("compare")
    spec = {
        "Name": "nested",
        "BIDSModelVersion": "1.0.0",
        "Input": {"task": ["pvt"]},
        "Nodes": [
            node("slopes", "1 + Days + (1 + Days | subject)", CompareWith=["intercepts"]),
            node("intercepts", "1 + Days + (1 | subject)"),
            node("constant", "1 + (1 | subject)", CompareWith=["intercepts"]),
        ],
    }
    (folder / "model.json").write_text(json.dumps(spec))
    arguments = [str(shared_data / "sleepstudy"), str(folder / "out"), "group"]
    assert main([*arguments, "--model", str(folder / "model.json"), "--nprocs", "1", "--quiet"]) == 0
    return folder / "out"


def volume(path):
    return np.asarray(nib.load(path).dataobj, dtype=np.float64).ravel()


def test_write_comparisons__equals_lme4_at_the_published_voxel(finished):
    stem = finished / "node-slopes" / "task-pvt_space-MNI152Lin_desc-slopesVsIntercepts"
    chi2 = volume(f"{stem}_stat-chi2_statmap.nii.gz")
    logp = volume(f"{stem}_stat-logp_statmap.nii.gz")
    # Images are rounded to float32.
    assert chi2[0] == pytest.approx(2 * (LMER["slopes"] - LMER["intercepts"]), rel=1e-5)
    # One variance and one covariance more: half chi2(1), half chi2(2).
    p = (stats.chi2.sf(chi2, 1) + stats.chi2.sf(chi2, 2)) / 2
    np.testing.assert_allclose(logp, -np.log10(p), rtol=1e-5)
    sidecar = json.loads((stem.parent / f"{stem.name}_stat-chi2_statmap.json").read_text())
    assert sidecar["Method"] == "REML"


def test_write_comparisons__models_that_differ_in_x_are_refitted_by_ml(finished):
    stem = finished / "node-constant" / "task-pvt_space-MNI152Lin_desc-interceptsVsConstant"
    sidecar = json.loads((stem.parent / f"{stem.name}_stat-chi2_statmap.json").read_text())
    assert sidecar["Method"] == "ML"
    assert "ML" in sidecar["Notice"]
    assert (volume(f"{stem}_stat-chi2_statmap.nii.gz") > 0).all()


@pytest.mark.parametrize("swapped", [False, True])
def test_run_compare__finds_what_the_run_itself_found(finished, tmp_path, swapped):
    places = [f"{finished}:intercepts", f"{finished}:slopes"]
    assert main_compare([*(places[::-1] if swapped else places), str(tmp_path / "lrt"), "--quiet"]) == 0
    stem = finished / "node-slopes" / "task-pvt_space-MNI152Lin_desc-slopesVsIntercepts"
    chi2 = volume(f"{stem}_stat-chi2_statmap.nii.gz")
    np.testing.assert_array_equal(volume(tmp_path / "lrt" / "blmm_vox_Chi2.nii"), chi2)
    logp = volume(f"{stem}_stat-logp_statmap.nii.gz")
    np.testing.assert_allclose(volume(tmp_path / "lrt" / "blmm_vox_Chi2lp.nii"), logp, rtol=1e-6)
    assert volume(tmp_path / "lrt" / "blmm_vox_mask.nii").all()


def test_run_compare__refuses_what_has_no_known_distribution(finished, tmp_path, capsys):
    places = [f"{finished}:constant", f"{finished}:slopes"]
    assert main_compare([*places, str(tmp_path / "lrt"), "--quiet"]) == 64
    assert "fixed and in random effects" in capsys.readouterr().err
    assert not (tmp_path / "lrt").exists()


def test_run_compare__never_writes_into_a_run(finished, capsys):
    assert main_compare([f"{finished}:intercepts", f"{finished}:slopes", str(finished), "--quiet"]) == 64
    assert "is one of the runs" in capsys.readouterr().err
