"""``blmm-fit`` from a config file to the reference implementation's file names."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import yaml

from blmm_bids.cli import main_compare, main_fit
from tests.cluster import fake_scheduler

N_IMAGES = 24
SHAPE = (3, 2, 2)
# Maps are float32.
FLOAT32 = 1e-5


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Images, X, factor and design files of 8 subjects seen 3 times; one voxel has missing images."""
    folder = tmp_path_factory.mktemp("study of blmm")
    rng = np.random.default_rng(5)
    subject = np.repeat(np.arange(8), 3)
    X = np.column_stack([np.ones(N_IMAGES), np.tile([0.0, 1, 2], 8), rng.normal(size=8)[subject]])
    Y = rng.normal(size=(N_IMAGES, *SHAPE)) + rng.normal(size=(8, *SHAPE))[subject] + 3
    Y[:5, 0, 0, 0] = 0
    for index, values in enumerate(Y):
        nib.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(folder / f"image {index}.nii.gz")
    (folder / "Y.txt").write_text("".join(f"image {index}.nii.gz\n" for index in range(N_IMAGES)) + "\n")
    np.savetxt(folder / "X.csv", X, delimiter=",")
    np.savetxt(folder / "factor.csv", subject + 1, fmt="%d")
    np.savetxt(folder / "ones.csv", np.ones(N_IMAGES), fmt="%d")
    return folder, X, Y.astype(np.float32)


def fit(folder, outdir, expect=0, **fields):
    config = {
        "Y_files": "Y.txt",
        "X": "X.csv",
        "Z": [{"f1": {"name": "subject", "factor": "factor.csv", "design": "ones.csv"}}],
        "outdir": str(outdir),
        "MAXMEM": "2**31",
        "clusterType": "local",
        "numNodes": 1,
        "contrasts": [
            {"c1": {"name": "joint", "vector": [[0, 1, 0], [0, 0, 1]]}},
            {"c2": {"name": "slope", "vector": [0, 1, 0]}},
        ],
        **fields,
    }
    path = folder / f"{outdir.name}.yml"
    path.write_text(yaml.safe_dump({name: value for name, value in config.items() if value is not None}))
    before = path.read_bytes()
    assert main_fit([str(path), "--quiet"]) == expect
    assert path.read_bytes() == before
    return {
        file.name.removeprefix("blmm_vox_").removesuffix(".nii"): np.asarray(nib.load(file).dataobj)
        for file in outdir.glob("blmm_vox_*.nii")
    }


@pytest.mark.parametrize("z", [[], None], ids=["Z: []", "no Z"])
def test_run_reference__without_z_is_ordinary_least_squares(study, tmp_path, z):
    folder, X, Y = study
    maps = fit(folder, tmp_path / "ols", Z=z)
    assert "D" not in maps
    for voxel in np.ndindex(*SHAPE):
        y = Y[(slice(None), *voxel)].astype(np.float64)
        keep = y != 0
        ols = sm.OLS(y[keep], X[keep]).fit()
        joint = ols.f_test(np.eye(3)[1:])
        np.testing.assert_allclose(maps["beta"][voxel], ols.params, rtol=FLOAT32)
        np.testing.assert_allclose(maps["cov"][voxel], ols.cov_params().ravel(), rtol=1e-4, atol=1e-7)
        assert maps["n"][voxel] == keep.sum()
        assert maps["edf"][voxel] == maps["conT_swedf"][voxel] == pytest.approx(ols.df_resid, rel=FLOAT32)
        assert maps["conF_swedf"][voxel] == pytest.approx(ols.df_resid, rel=FLOAT32)
        assert maps["conT"][voxel] == pytest.approx(ols.tvalues[1], rel=1e-4)
        assert maps["conF"][voxel] == pytest.approx(joint.fvalue, rel=1e-4)
        assert maps["conFlp"][voxel] == pytest.approx(-np.log10(joint.pvalue), rel=1e-4)
        assert maps["sigma2"][voxel] == pytest.approx(ols.mse_resid, rel=FLOAT32)


def test_run_reference__writes_the_references_files_and_orders(study, tmp_path):
    folder, _, _ = study
    maps = fit(folder, tmp_path / "deep" / "er" / "lmm")
    p = 3
    volumes = {name: values.shape[3] if values.ndim == 4 else 1 for name, values in maps.items()}
    assert volumes == {
        "mask": 1, "n": 1, "edf": 1, "beta": p, "sigma2": 1, "llh": 1, "D": 1, "resms": 1, "cov": p * p,
        "con": 1, "conSE": 1, "conT": 1, "conT_swedf": 1, "conTlp": 1,
        "conF": 1, "conF_swedf": 1, "conFlp": 1, "conR2": 1,
    }  # fmt: skip
    # Missing where the value is 0; the other voxels have all images.
    assert sorted(maps["n"].ravel())[:2] == [N_IMAGES - 5, N_IMAGES]
    np.testing.assert_allclose(maps["conSE"] ** 2, maps["cov"][..., 1 * p + 1], rtol=1e-4)
    assert np.isfinite(maps["conF"]).all()
    assert (maps["conF"] > 0).all()
    settings = yaml.safe_load((tmp_path / "deep" / "er" / "lmm" / "inputs.yml").read_text())
    assert settings["MAXMEM"] == 2**31
    assert not (tmp_path / "deep" / "er" / "lmm" / "blmm_work").exists()


def test_run_reference__minimal_switches_leave_files_out(study, tmp_path):
    folder, _, _ = study
    maps = fit(folder, tmp_path / "few", OutputCovB=False, resms=0, contrasts=[], Missingness=[{"MinN": 22}])
    assert not {"cov", "resms", "con", "conF"} & set(maps)
    assert maps["mask"].sum() == np.prod(SHAPE) - 1


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"safemode": 1}, 64, "safeMode"),
        ({"X": "absent.csv"}, 66, "absent.csv"),
        ({"Missingness": {"MinN": 25}}, 65, "MinN 25"),
        ({"contrasts": [{"c1": {"name": "long", "vector": [1, 0, 0, 0]}}]}, 64, "4 weights"),
    ],
    ids=["misspelt field", "absent file", "MinN above n", "contrast of wrong length"],
)
def test_run_reference__refuses_with_a_message(study, tmp_path, capsys, fields, code, word):
    folder, _, _ = study
    assert fit(folder, tmp_path / "bad", expect=code, **fields) == {}
    assert word in capsys.readouterr().err


def test_run_reference__runs_in_jobs(study, tmp_path, monkeypatch, checkout):
    folder, _, _ = study
    state = tmp_path / "scheduler"
    monkeypatch.setenv("PATH", f"{fake_scheduler.install(state)}:{os.environ['PATH']}")
    monkeypatch.setenv(fake_scheduler.STATE, str(state))
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    here = fit(folder, tmp_path / "here")
    there = fit(folder, tmp_path / "there", clusterType="SLURM", numNodes=2)
    assert fake_scheduler.job_ids(state) == {"1", "2"}
    assert here.keys() == there.keys()
    for name, values in here.items():
        np.testing.assert_array_equal(there[name], values)


def test_run_reference__equals_lmer_on_real_images(tmp_path, shared_data):
    faces = shared_data / "faces"
    bases = ("canonical", "tempderiv", "dispderiv")
    subjects = sorted(path.name for path in faces.glob("sub-*"))
    images = [next((faces / s / "func").glob(f"*contrast-{b}_*.nii.gz")) for s in subjects for b in bases]
    (tmp_path / "Y.txt").write_text("\n".join(map(str, images)))
    X = np.column_stack([np.ones(36), np.tile([0, 1, 0], 12), np.tile([0, 0, 1], 12)])
    np.savetxt(tmp_path / "X.csv", X, delimiter=",")
    np.savetxt(tmp_path / "factor.csv", np.repeat(np.arange(12), 3), fmt="%d")
    np.savetxt(tmp_path / "ones.csv", np.ones(36), fmt="%d")
    maps = fit(tmp_path, tmp_path / "out", reml=False, satterthwaite="observed")
    truth = pd.read_csv(faces / "reference" / "lmer_ML.csv")
    at = tuple(pd.read_csv(faces / "reference" / "voxel_ijk.csv").to_numpy().T)
    loglik = truth["logLik"].to_numpy()
    assert (maps["llh"][at] - loglik > -1e-5 * (1 + np.abs(loglik))).all()
    np.testing.assert_allclose(maps["sigma2"][at], truth["sigma2"], rtol=2e-3)
    se = truth["se_basistempderiv"].to_numpy()
    np.testing.assert_allclose(maps["conSE"][at], se, rtol=2e-3)
    assert (np.abs(maps["beta"][at][:, 1] - truth["b_basistempderiv"]) < 1e-3 * se).all()
    d = maps["D"][at]
    np.testing.assert_allclose(d, truth["D_subject_(Intercept)"] / truth["sigma2"], rtol=2e-3, atol=1e-4)


def test_run_reference__says_what_it_replaces_and_keeps_it_until_then(study, tmp_path, capsys):
    folder = study[0]
    out = tmp_path / "out"
    first = fit(folder, out)
    capsys.readouterr()
    fit(folder, out)
    said = capsys.readouterr().err
    assert f"outdir {out} holds {len(first)} maps of an earlier run; they stay until this run has" in said
    fit(folder, out, contrasts=[{"c1": {"name": "slope", "vector": [0, 1, 0]}}])
    assert "of an earlier run of another config (other contrasts)" in capsys.readouterr().err
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    # Refused once the images are read: what was there is still there.
    fit(folder, out, expect=65, Missingness={"MinPercent": 1.0}, data_mask_thresh=1e9)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_run_reference__never_replaces_what_it_reads(study, tmp_path, capsys):
    folder, out = study[0], tmp_path / "out"
    fit(folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    fit(folder, out, expect=73, analysis_mask=str(out / "blmm_vox_mask.nii"))
    assert "blmm_vox_mask.nii is read and would be replaced" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_run_reference__keeps_an_inputs_yml_of_other_hands(study, tmp_path, capsys):
    folder, out = study[0], tmp_path / "out"
    out.mkdir()
    (out / "inputs.yml").write_text("ingredients: [salt]\n")
    fit(folder, out, expect=73)
    assert "inputs.yml is not of this software" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["inputs.yml"]


def test_run_compare__never_replaces_a_fit(study, tmp_path, capsys):
    folder = study[0]
    for name, z in (("small", []), ("large", None), ("third", [])):
        fit(folder, tmp_path / name, **({} if z is None else {"Z": z}), reml=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "third").iterdir()}
    assert main_compare([str(tmp_path / name) for name in ("small", "large", "third")]) == 73
    assert "third holds the maps of a fit (blmm_vox_" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "third").iterdir()} == before
    for _ in range(2):
        assert main_compare([str(tmp_path / name) for name in ("small", "large", "lrt")]) == 0
