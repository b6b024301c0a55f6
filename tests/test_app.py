"""The BIDS App from the command line to the maps, against lme4's own numbers at every voxel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from blmm_bids.cli import main
from blmm_bids.stats.model import Status
from tests.datasets import longitudinal

# Images are rounded to float32, and so are all maps but the log-likelihood.
LOGLIK_TOLERANCE = 1e-5
BETA_IN_SE = 1e-3
RELATIVE = 2e-3
D_ABSOLUTE = 1e-4
DF_RELATIVE = 1e-2
NODE = "node-group"
FACES = ("Intercept", "contrastTTempderiv", "contrastTDispderiv")
SLEEP = ("Intercept", "Days")


@dataclass(frozen=True)
class Maps:
    """The maps of one node, by what follows the stem."""

    directory: Path
    stem: str

    def __getitem__(self, name):
        suffix = "" if name.endswith("_mask") else "_statmap"
        image = nib.load(self.directory / f"{self.stem}_{name}{suffix}.nii.gz")
        return np.asarray(image.dataobj).ravel()

    def names(self):
        pattern = re.escape(self.stem) + r"_(.*?)(?:_statmap)?\.nii\.gz"
        return {re.fullmatch(pattern, path.name)[1] for path in self.directory.glob("*.nii.gz")}


def run_app(dataset, out, *options, expect=0):
    code = main([str(dataset), str(out), "group", "--nprocs", "1", "--quiet", *map(str, options)])
    assert code == expect
    return out


def modified_spec(source, path, **blmm):
    """The dataset's model with other settings of Software.blmm."""
    spec = json.loads(source.read_text())
    spec["Nodes"][0]["Model"]["Software"]["blmm"].update(blmm)
    path.write_text(json.dumps(spec))
    return path


@pytest.fixture(scope="session")
def runs(shared_data, tmp_path_factory):
    """Maps of a dataset under a criterion and a df, each fitted once."""
    done = {}

    def run(name, *, reml=True, satterthwaite="expected"):
        key = name, reml, satterthwaite
        if key not in done:
            root, source = tmp_path_factory.mktemp(name), shared_data / name
            if reml and satterthwaite == "expected":
                spec = source / "model.json"
            else:
                changes = {"REML": reml, "Satterthwaite": satterthwaite}
                spec = modified_spec(source / "model.json", root / "model.json", **changes)
            run_app(source, root / "out", "--model", spec)
            stem = {"faces": "task-faces_space-MNI152Lin", "sleepstudy": "task-pvt_space-MNI152Lin"}[name]
            done[key] = Maps(root / "out" / NODE, stem)
        return done[key]

    return run


def reference(shared_data, name, reml):
    """R's table, a row a voxel; flat indices of the rows; columns by what they hold."""
    folder = shared_data / name / "reference"
    if name == "faces":
        table = pd.read_csv(folder / f"lmer_{'REML' if reml else 'ML'}.csv")
        ijk = pd.read_csv(folder / "voxel_ijk.csv").to_numpy()
        voxels = np.ravel_multi_index(ijk.T, (19, 22, 16))
        effects = ("(Intercept)", "basistempderiv", "basisdispderiv")
        fixed = {
            k: table[[f"{k}_{effect}" for effect in effects]].to_numpy() for k in ("b", "se", "df", "t", "p")
        }
        D = table[["D_subject_(Intercept)"]].to_numpy()
        return (
            voxels,
            fixed,
            table["logLik"].to_numpy(),
            table["sigma2"].to_numpy(),
            D,
            table["singular"] == 1,
        )
    table = pd.read_csv(folder / f"ref_{'reml' if reml else 'ml'}.csv")
    fixed = {k: table[[f"{v}1", f"{v}2"]].to_numpy() for k, v in (("b", "beta"), ("se", "se"), ("df", "df"))}
    voxels = table["voxel"].to_numpy() - 1
    D = table[["vc1", "vc2", "vc3"]].to_numpy()
    return (
        voxels,
        fixed,
        table["loglik"].to_numpy(),
        table["sigma2"].to_numpy(),
        D,
        table["singular"].astype(bool),
    )


D_MAPS = {
    "faces": ("param-subject+Intercept+Intercept_stat-D",),
    "sleepstudy": tuple(
        f"param-subject+{pair}_stat-D" for pair in ("Intercept+Intercept", "Intercept+Days", "Days+Days")
    ),
}


@pytest.mark.parametrize("satterthwaite", ["expected", "observed"])
@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize(("name", "columns"), [("faces", FACES), ("sleepstudy", SLEEP)])
def test_app__every_voxel_agrees_with_lme4(runs, shared_data, name, columns, reml, satterthwaite):
    maps = runs(name, reml=reml, satterthwaite=satterthwaite)
    voxels, fixed, loglik, sigma2, D, singular = reference(shared_data, name, reml)
    # 1. The objective first.
    gap = maps["stat-logLikelihood"][voxels] - loglik
    worst = np.argmin(gap)
    assert (gap >= -LOGLIK_TOLERANCE * (1 + np.abs(loglik))).all(), f"voxel {worst}: {gap[worst]:.2e}"
    not_worse = gap <= LOGLIK_TOLERANCE * (1 + np.abs(loglik))
    # lme4 stops a little early at some: 3 of sleepstudy's 30 voxels by ML.
    assert not_worse.mean() >= 0.9
    # 2. Estimates, wherever lme4's are not worse.
    got_sigma2 = maps["stat-sigma2"][voxels]
    np.testing.assert_allclose(got_sigma2[not_worse], sigma2[not_worse], rtol=RELATIVE)
    for column, label in enumerate(columns):
        beta, se = maps[f"param-{label}_stat-beta"][voxels], maps[f"contrast-{label}_stat-se"][voxels]
        off = (beta - fixed["b"][:, column]) / fixed["se"][:, column]
        assert np.abs(off[not_worse]).max() < BETA_IN_SE
        np.testing.assert_allclose(se[not_worse], fixed["se"][not_worse, column], rtol=RELATIVE)
        np.testing.assert_array_equal(maps[f"contrast-{label}_stat-effect"][voxels], beta)
        np.testing.assert_allclose(maps[f"contrast-{label}_stat-t"][voxels], beta / se, rtol=1e-5)
    for column, label in enumerate(D_MAPS[name]):
        got, wanted = maps[label][voxels], D[:, column] / sigma2
        np.testing.assert_allclose(got[not_worse], wanted[not_worse], rtol=RELATIVE, atol=D_ABSOLUTE)
    # 3. Status and counts.
    status = maps["stat-status"][voxels]
    assert np.isin(status, (Status.CONVERGED, Status.SINGULAR)).all()
    assert (
        status[not_worse] == np.where(singular, Status.SINGULAR, Status.CONVERGED)[not_worse]
    ).mean() > 0.99
    # 4. lmerTest's df is of the observed information.
    if satterthwaite == "observed":
        interior = not_worse & (status == Status.CONVERGED) & ~singular.to_numpy()
        for column, label in enumerate(columns):
            got, wanted = maps[f"contrast-{label}_stat-dof"][voxels], fixed["df"][:, column]
            np.testing.assert_allclose(got[interior], wanted[interior], rtol=DF_RELATIVE, err_msg=label)


def test_app__faces_have_singular_and_interior_voxels(runs):
    status = runs("faces")["stat-status"][runs("faces")["desc-analysis_mask"] > 0]
    assert status.size == 1685
    assert 0.24 < (status == Status.SINGULAR).mean() < 0.28


def test_app__balanced_voxels_have_the_textbook_df(runs):
    maps = runs("sleepstudy")
    inside = maps["desc-analysis_mask"] > 0
    np.testing.assert_allclose(maps["contrast-Days_stat-dof"][inside], 17, rtol=1e-4)


EVERY_FIT = {"desc-analysis_mask"} | {
    f"stat-{name}"
    for name in ("n", "edf", "sigma2", "resms", "mean", "logLikelihood", "iterations", "status")
}
T_STATS = ("effect", "variance", "se", "t", "dof", "z", "logp", "fdr", "fdrBY")


def test_app__writes_the_maps_of_the_contract(runs):
    maps = runs("sleepstudy")
    pairs = ("Intercept+Intercept", "Intercept+Days", "Days+Days")
    wanted = EVERY_FIT | {f"param-{name}_stat-beta" for name in SLEEP} | set(D_MAPS["sleepstudy"])
    wanted |= {f"param-{pair}_stat-covbeta" for pair in pairs}
    wanted |= {f"contrast-{name}_stat-{stat}" for name in SLEEP for stat in T_STATS}
    assert maps.names() == wanted
    for path in maps.directory.glob("*.nii.gz"):
        assert path.with_name(path.name.replace(".nii.gz", ".json")).is_file()
    out = maps.directory.parent
    for name in ("dataset_description.json", ".bidsignore", "README", "logs", "code", f"{NODE}.html"):
        assert (out / name).exists(), name
    for desc in ("", "desc-random_", "desc-inputs_", "desc-contrasts_"):
        assert (maps.directory / f"{maps.stem}_{desc}design.tsv").is_file()
    assert not (out / ".work").exists()


def test_app__outside_the_mask_is_zero_and_inside_is_finite(runs):
    maps = runs("faces")
    inside = maps["desc-analysis_mask"] > 0
    for name in maps.names():
        assert (maps[name][~inside] == 0).all(), name
        assert np.isfinite(maps[name][inside]).all(), name


def test_app__worker_count_changes_no_bit(runs, shared_data, tmp_path):
    source = shared_data / "faces"
    command = [
        sys.executable,
        "-m",
        "blmm_bids",
        source,
        tmp_path / "out",
        "group",
        "--model",
        source / "model.json",
    ]
    subprocess.run([*map(str, command), "--nprocs", "2", "--quiet"], check=True, cwd=tmp_path)
    one = runs("faces")
    two = Maps(tmp_path / "out" / NODE, one.stem)
    assert two.names() == one.names()
    for name in one.names():
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


# Synthetic datasets ------------------------------------------------------------------------------


def only_node(out):
    """The maps of a run whose images share no entity but these."""
    (path,) = out.glob("node-*/*_stat-sigma2_statmap.nii.gz")
    return Maps(path.parent, path.name.split("_stat-")[0])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Five subjects of three sessions; a mask that leaves one voxel out; one voxel partly missing."""
    root = longitudinal(tmp_path_factory.mktemp("app") / "data set", subjects=("01", "02", "03", "04", "05"))
    for number, path in enumerate(sorted(root.rglob("*stat-effect_statmap.nii.gz"))):
        image = nib.load(path)
        values = image.get_fdata(dtype=np.float32)
        values[1, 0, 0] = np.nan if number % 3 == 0 else values[1, 0, 0]
        values[2, 0, 0] = 0.0 if number % 4 else values[2, 0, 0]
        values[3, 0, 0] = 7.0
        nib.Nifti1Image(values, image.affine).to_filename(path)
    return root


def test_app__linear_model_by_formula(tree, tmp_path):
    out = run_app(
        tree, tmp_path / "out", "--formula", "1 + time", "--contrast", "twice=2*time", "--outputs", "full"
    )
    maps = only_node(out)
    images = sorted(tree.rglob("*stat-effect_statmap.nii.gz"))
    Y = np.stack([nib.load(path).get_fdata().ravel() for path in images])
    time = np.array([float(re.search(r"_ses-(\d+)", path.name)[1]) - 1 for path in images])
    X = np.column_stack([np.ones(time.size), time])
    flat = np.arange(Y.shape[1]).reshape(4, 3, 2)
    beta = maps["param-time_stat-beta"]
    for voxel in (flat[1, 1, 1], flat[1, 0, 0]):
        keep = np.isfinite(Y[:, voxel])
        truth = np.linalg.lstsq(X[keep], Y[keep, voxel])[0]
        assert maps["stat-n"][voxel] == keep.sum()
        assert beta[voxel] == pytest.approx(truth[1], rel=1e-5)
        assert maps["contrast-twice_stat-effect"][voxel] == pytest.approx(2 * truth[1], rel=1e-5)
        assert maps["contrast-twice_stat-dof"][voxel] == pytest.approx(keep.sum() - 2, rel=1e-6)
    mask = maps["desc-analysis_mask"]
    # Outside every image's mask; and with too few images, since zeros are missing.
    assert mask[flat[0, 0, 0]] == 0
    assert mask[flat[2, 0, 0]] == 0
    constant = flat[3, 0, 0]
    assert (mask[constant], maps["stat-status"][constant]) == (1, Status.CONSTANT)
    assert np.isnan(beta[constant])


def test_app__missing_voxels_equal_a_fit_of_the_images_that_have_them(tree, tmp_path):
    formula = ("--formula", "1 + time + (1 | subject)", "--min-n", "4", "--min-percent", "0")
    whole = run_app(tree, tmp_path / "whole", *formula)
    fewer = tmp_path / "fewer data"
    shutil.copytree(tree, fewer)
    for path in sorted(fewer.rglob("*stat-effect_statmap.nii.gz"))[::3]:
        path.unlink()
    part = run_app(fewer, tmp_path / "part", *formula)
    voxel = np.ravel_multi_index((1, 0, 0), (4, 3, 2))
    a, b = only_node(whole), only_node(part)
    assert a["stat-n"][voxel] == b["stat-n"][voxel] < a["stat-n"].max()
    assert a["stat-status"][voxel] == b["stat-status"][voxel]
    for name in (
        "stat-logLikelihood",
        "param-time_stat-beta",
        "contrast-time_stat-se",
        "contrast-time_stat-dof",
    ):
        assert a[name][voxel] == pytest.approx(b[name][voxel], rel=1e-4), name


def test_app__dry_run_writes_the_table_and_no_map(tree, tmp_path):
    out = run_app(tree, tmp_path / "out", "--formula", "1 + time + (1 | subject)", "--dry-run")
    written = [path for path in out.rglob("*") if path.is_file()]
    assert [path.suffix for path in written] == [".tsv"]
    table = pd.read_csv(written[0], sep="\t")
    assert len(table) == len(list(tree.rglob("*stat-effect_statmap.nii.gz")))
    assert {"path", "subject", "session", "time", "status", "reason"} <= set(table.columns)
    assert set(table["status"]) == {"kept"}


ERRORS = [
    (["participant", "--formula", "1"], 17, "participant"),
    (["group", "--formula", "1", "--task-label", "rest"], 18, "rest"),
    (["group", "--formula", "1 + agee"], 64, "agee"),
    (["group", "--formula", "1 + (1 | subjct)"], 64, "subjct"),
    (["group"], 64, "--model"),
    (["group", "--formula", "1", "--no-such-option"], 64, "--no-such-option"),
    (["group", "--model", "absent.json"], 66, "absent.json"),
    (["group", "--formula", "1", "--mask", "absent.nii.gz"], 66, "absent.nii.gz"),
]


@pytest.mark.parametrize(("arguments", "code", "word"), ERRORS, ids=[" ".join(each[0]) for each in ERRORS])
def test_app__a_users_error_is_one_message_and_its_code(tree, tmp_path, capsys, arguments, code, word):
    assert main([str(tree), str(tmp_path / "out"), *arguments]) == code
    error = capsys.readouterr().err
    assert word in error
    assert "Traceback" not in error


def test_app__a_dataset_that_is_not_there(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "out"), "group", "--formula", "1"]) == 66
    assert "nowhere" in capsys.readouterr().err


def test_app__writes_nothing_into_the_dataset(tree, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    run_app(tree, tmp_path / "out", "--formula", "1 + (1 | subject)")
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before
