from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import yaml
from scipy import stats

from blmm_bids.errors import BlmmError, DataError, MissingInputError, ModelSpecError, UsageError
from blmm_bids.outputs.compare import compare_finished
from blmm_bids.outputs.finished import read_finished
from blmm_bids.outputs.reference import SIGNATURE
from blmm_bids.outputs.write import write_unit
from blmm_bids.stats.model import FitOptions
from tests.outputs.synthetic import AFFINE, SHAPE, VOXELS, design, results, run, unit

N_IMAGES = 12
AGE = np.tile([20.0, 21.5, 23.0], 4)
SUBJECT = np.repeat([1, 2, 3, 4], 3)


def save(path, values, dtype="float64"):
    nib.save(nib.Nifti1Image(np.asarray(values).reshape(SHAPE).astype(dtype), AFFINE), path)


def reference_directory(
    root,
    name,
    *,
    slopes=0,
    fixed=2,
    reml=True,
    ours=True,
    prefix="blmm",
    llh=None,
    order=None,
    images="sub",
    n=None,
):
    """A finished directory of config mode: X, and a factor with no, one or two effects."""
    out = root / name
    out.mkdir()
    order = np.arange(N_IMAGES) if order is None else order
    X = np.column_stack([np.ones(N_IMAGES), AGE, AGE**2])[order]
    (out / "Y.txt").write_text("".join(f"{root}/{images}{number}.nii\n" for number in order))
    np.savetxt(out / "X.csv", X[:, :fixed], delimiter=",", fmt="%.17g")
    np.savetxt(out / "factor.csv", SUBJECT[order], fmt="%d")
    np.savetxt(out / "design.csv", X[:, :slopes], delimiter=",", fmt="%.17g")
    factor = {"name": "subject", "factor": "factor.csv", "design": "design.csv"}
    content = {
        "Y_files": "Y.txt", "X": "X.csv", "outdir": ".", "reml": reml,
        "Z": [{"f1": factor}] if slopes else [],
        "contrasts": [{"c1": {"name": "a", "vector": [1] * fixed}}],
    }  # fmt: skip
    if prefix == "blm":
        content = {key: value for key, value in content.items() if key not in ("Z", "reml")} | {"verbose": 1}
    text = yaml.safe_dump(content)
    (out / "inputs.yml").write_text(f"{SIGNATURE} 1.0\n{text}" if ours else text)
    mask = np.zeros(60)
    mask[VOXELS] = 1
    save(out / f"{prefix}_vox_mask.nii", mask, "uint8")
    save(out / f"{prefix}_vox_n.nii", mask * N_IMAGES if n is None else n, "int32")
    save(out / f"{prefix}_vox_llh.nii", np.full(60, -20.0) if llh is None else llh)
    return out


def read_pair(first, second):
    return compare_finished(read_finished(first), read_finished(second))


def test_compare_finished__random_slope_in_config_mode(tmp_path):
    small = np.linspace(-30, -20, 60)
    gain = np.linspace(-0.01, 400, 60)
    first = reference_directory(tmp_path, "small", slopes=1, llh=small)
    second = reference_directory(tmp_path, "large", slopes=2, llh=small + gain)
    outcome = read_pair(first, second)
    chi2 = np.maximum(2 * gain[VOXELS], 0)
    np.testing.assert_array_equal(outcome.voxels, VOXELS)
    np.testing.assert_allclose(outcome.maps["chi2"], chi2, atol=1e-12)
    by_hand = -np.log10((stats.chi2.sf(chi2, 1) + stats.chi2.sf(chi2, 2)) / 2)
    np.testing.assert_allclose(outcome.maps["logp"], by_hand, rtol=1e-9, atol=1e-12)
    assert outcome.maps["logp"][-1] > 50
    assert outcome.notices == ()
    notes = yaml.safe_load(outcome.notes)
    assert (notes["smaller"], notes["larger"], notes["criterion"]) == ("small", "large", "REML")
    assert notes["distribution"] == "0.5 chi2_1 + 0.5 chi2_2"


def test_compare_finished__exchanges_and_says_so(tmp_path):
    first = reference_directory(tmp_path, "large", slopes=1, llh=np.full(60, -10.0))
    second = reference_directory(tmp_path, "small", llh=np.full(60, -12.0))
    outcome = read_pair(first, second)
    assert (outcome.smaller.model.name, outcome.larger.model.name) == ("small", "large")
    np.testing.assert_array_equal(outcome.maps["chi2"], 4.0)
    assert outcome.notices == ("'large' is the larger model; the two were exchanged",)


def test_compare_finished__other_images_at_a_voxel_are_nan(tmp_path):
    n = np.full(60, N_IMAGES)
    n[VOXELS[:3]] = 11
    outcome = read_pair(
        reference_directory(tmp_path, "small"), reference_directory(tmp_path, "large", slopes=1, n=n)
    )
    assert np.isnan(outcome.maps["chi2"][:3]).all()
    assert np.isfinite(outcome.maps["chi2"][3:]).all()
    assert outcome.notices == ("3 of 20 voxels were fitted to different images and are NaN",)


def test_compare_finished__rows_in_another_order(tmp_path):
    order = np.random.default_rng(2).permutation(N_IMAGES)
    outcome = read_pair(
        reference_directory(tmp_path, "small", slopes=1),
        reference_directory(tmp_path, "large", slopes=2, order=order),
    )
    assert outcome.mixture.dfs == (1, 2)


def test_compare_finished__fixed_effects_by_ml(tmp_path):
    outcome = read_pair(
        reference_directory(tmp_path, "small", slopes=1, reml=False),
        reference_directory(tmp_path, "large", slopes=1, fixed=3, reml=False),
    )
    assert outcome.mixture.formula == "chi2_1"


def blm_llh(resms, n_fixef, reml=False):
    """Log-likelihood of a linear model from its residual mean square."""
    df = N_IMAGES - n_fixef
    sigma2 = resms * df / N_IMAGES
    full = -0.5 * N_IMAGES * (np.log(2 * np.pi * sigma2) + 1)
    return full - 3.0 if reml else full


def blm_directory(root, *, reml=False):
    resms = np.linspace(1, 2, 60)
    out = reference_directory(root, "blm", prefix="blm", llh=blm_llh(resms, 2, reml))
    save(out / "blm_vox_resms.nii", resms, "float32")
    return out


def test_compare_finished__blm_directory_is_ml(tmp_path):
    larger = reference_directory(tmp_path, "large", slopes=1, reml=False)
    outcome = read_pair(blm_directory(tmp_path), larger)
    assert outcome.mixture.dfs == (0, 1)
    assert (outcome.smaller.origin, outcome.smaller.model.reml) == ("BLM-py", False)


def test_compare_finished__blm_directory_against_reml(tmp_path):
    larger = reference_directory(tmp_path, "large", slopes=1)
    with pytest.raises(ModelSpecError, match="'large' was fitted by REML and 'blm' by ML"):
        read_pair(blm_directory(tmp_path), larger)


def test_read_finished__blm_directory_of_another_criterion(tmp_path):
    with pytest.raises(DataError, match=r"is not the full .ML. log-likelihood"):
        read_finished(blm_directory(tmp_path, reml=True))


REFUSED = [
    ({"slopes": 1}, {"slopes": 2, "images": "other"}, DataError, "fitted to different images"),
    ({"slopes": 1}, {"slopes": 2, "ours": False}, DataError, "differ by a constant"),
    ({}, {"slopes": 2}, ModelSpecError, "adds 2 variances at once"),
    ({"slopes": 1}, {"slopes": 1, "fixed": 3}, ModelSpecError, "fit both by ML"),
]


@pytest.mark.parametrize(("few", "many", "error", "message"), REFUSED)
def test_compare_finished__refuses(tmp_path, few, many, error, message):
    first = reference_directory(tmp_path, "a", **few)
    second = reference_directory(tmp_path, "b", **many)
    with pytest.raises(error, match=message) as caught:
        read_pair(first, second)
    assert str(caught.value).startswith("cannot compare 'a' with 'b': ")


def test_compare_finished__refuses_another_grid(tmp_path):
    first = read_finished(reference_directory(tmp_path, "a"))
    shifted = replace(first.grid, affine=first.grid.affine + np.diag([0, 0, 0.5, 0]))
    with pytest.raises(DataError, match="different grids"):
        compare_finished(first, replace(first, grid=shifted))


# --- the BIDS App's directories, written by its own writer ---


def app_directory(root, **models):
    """An output dataset with one node a model; its blocks are made up."""
    dataset = run(root / "out", root)
    for node, changes in models.items():
        fit = replace(unit(root), node=node, **changes)
        write_unit(dataset, fit, [(VOXELS, results(fit))], root / "scratch")
    return root / "out"


def test_compare_finished__two_nodes_of_the_app(tmp_path):
    out = app_directory(tmp_path, slopes={"design": design()}, intercept={"design": design(slopes=False)})
    outcome = read_pair(f"{out}:intercept", f"{out}:slopes")
    assert (outcome.mixture.dfs, outcome.mixture.swapped) == ((1, 2), False)
    assert "'age' over 'subject'" in outcome.mixture.added
    # The first voxel of the synthetic run has no fit.
    np.testing.assert_array_equal(outcome.voxels, VOXELS[1:])


def test_read_finished__gives_back_the_design_of_a_node(tmp_path):
    finished = read_finished(app_directory(tmp_path, only={"fit_options": FitOptions(reml=False)}))
    planned = design()
    assert not finished.model.reml
    np.testing.assert_array_equal(finished.model.design.X, planned.X)
    assert finished.model.design.fixef_names == planned.fixef_names
    (term,), (expected,) = finished.model.design.terms, planned.terms
    np.testing.assert_array_equal(term.effects, expected.effects)
    np.testing.assert_array_equal(term.refs, expected.refs)
    assert (term.group, term.effect_names) == (expected.group, expected.effect_names)
    assert finished.images[0].startswith("bids:")
    assert len(finished.images) == 12
    np.testing.assert_array_equal(finished.loglik, results(unit(tmp_path))["logLikelihood"][1:])


def test_compare_finished__the_app_against_config_mode(tmp_path):
    out = app_directory(tmp_path, slopes={"design": design()})
    app = read_finished(out)
    names = [image.rsplit("/", 1)[1] for image in app.images]
    local = replace(
        app,
        model=replace(app.model, design=design(slopes=False), name="local"),
        images=tuple(f"/data/{name}" for name in names),
    )
    assert compare_finished(local, app).mixture.dfs == (1, 2)


def test_read_finished__says_what_a_directory_holds(tmp_path):
    out = app_directory(tmp_path, alpha={}, beta={})
    cases = [
        (str(out), UsageError, "holds several models (alpha, beta)"),
        (f"{out}:gamma", UsageError, "has no model 'gamma' (has alpha, beta)"),
        (f"{out}:alpha:contrast-scenes", UsageError, "of which 0 match"),
        (str(tmp_path / "absent"), MissingInputError, "there is no such directory"),
        (str(tmp_path / "scratch"), UsageError, "holds no finished model"),
    ]
    (tmp_path / "scratch").mkdir(exist_ok=True)
    for place, error, message in cases:
        with pytest.raises(error) as caught:
            read_finished(place)
        assert message in str(caught.value)
    assert read_finished(f"{out}:alpha:contrast-faces").model.name == "alpha"
    assert read_finished(out / "node-beta").model.name == "beta"


@pytest.mark.parametrize("name", ["inputs.yml", "blmm_vox_llh.nii", "blmm_vox_n.nii", "X.csv", "Y.txt"])
def test_read_finished__an_unfinished_directory(tmp_path, name):
    out = reference_directory(tmp_path, "a", slopes=1)
    (out / name).unlink()
    with pytest.raises(MissingInputError, match=name):
        read_finished(out)


def test_read_finished__a_truncated_map(tmp_path):
    out = reference_directory(tmp_path, "a", slopes=1)
    path = out / "blmm_vox_llh.nii"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(BlmmError, match=r"blmm_vox_llh\.nii: cannot be read"):
        read_finished(out)
