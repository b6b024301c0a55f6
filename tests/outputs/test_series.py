"""Maps of each level and each image: names, sidecars, slabs, and one run from images to maps."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.cli import main
from blmm_bids.errors import ModelSpecError, OutputError
from blmm_bids.outputs.naming import list_series
from blmm_bids.outputs.registry import OutputOptions
from blmm_bids.outputs.series import series_costs, unit_series
from blmm_bids.outputs.stored import stored_fit
from blmm_bids.outputs.write import check_names, write_unit
from blmm_bids.stages import records
from blmm_bids.stats.model import RandomTerm
from tests.outputs.synthetic import VOXELS, blocks, design, run, unit

BOTH = OutputOptions("minimal", ranef=True, residuals=True)
# Maps are float32; lme4's documentation prints four decimals.
FLOAT32 = 2e-6
PRINTED = 5e-4


def factor(*levels, group="subject", effects=("Intercept",)):
    n_obs = 2 * len(levels)
    refs = np.tile(np.arange(len(levels)), 2)
    return RandomTerm(group, levels, refs, np.ones((n_obs, len(effects))), effects)


def image(name, **entities):
    return name, entities


@pytest.mark.parametrize(
    ("stem", "terms", "wanted"),
    [
        (
            {"task": "n", "contrast": "faces"},
            [factor("01", "02", effects=("Intercept", "age"))],
            [
                "task-n_contrast-faces_param-subject+Intercept+01_stat-ranef",
                "task-n_contrast-faces_param-subject+age+01_stat-ranef",
                "task-n_contrast-faces_param-subject+Intercept+02_stat-ranef",
                "task-n_contrast-faces_param-subject+age+02_stat-ranef",
            ],
        ),
        (
            {},
            [factor("St. John's", "b", group="site"), factor("b:01", "b:02", group="site:subject")],
            [
                "param-site+Intercept+StJohnS_stat-ranef",
                "param-site+Intercept+b_stat-ranef",
                "param-siteSubject+Intercept+b01_stat-ranef",
                "param-siteSubject+Intercept+b02_stat-ranef",
            ],
        ),
    ],
)
def test_list_series__names_modes_by_factor_effect_and_level(stem, terms, wanted):
    specs = list_series(stem, terms, (), BOTH)["ranef"]
    assert [spec.filename for spec in specs] == [f"{name}_statmap.nii.gz" for name in wanted]
    assert [spec.column for spec in specs] == list(range(len(specs)))
    assert specs[0].names["RandomEffect"]["Level"] == terms[0].levels[0]


def test_list_series__names_residuals_by_the_images_own_entities():
    images = [
        image("a", subject="01", task="n", contrast="faces", desc="smooth", stat="effect"),
        image("b", subject="01", task="n", contrast="faces", desc="raw", stat="effect"),
    ]
    specs = list_series({"task": "n"}, (), images, BOTH)["residuals"]
    assert [spec.filename for spec in specs] == [
        "sub-01_task-n_contrast-faces_desc-smooth_stat-residual_statmap.nii.gz",
        "sub-01_task-n_contrast-faces_desc-raw_stat-residual_statmap.nii.gz",
    ]


@pytest.mark.parametrize(
    ("terms", "images", "message"),
    [
        ([factor("a-b", "aB")], [], "'a-b'.*'aB'.*rename one of the levels"),
        ([factor("x", "X")], [], "'x'.*'X'"),
        ([], [image("a_x", subject="1", stat="p"), image("a_y", subject="1", stat="t")], "'a_x'.*'a_y'"),
    ],
)
def test_list_series__refuses_names_that_collide(terms, images, message):
    with pytest.raises(ModelSpecError, match=message):
        list_series({}, terms, images, BOTH)


@pytest.mark.parametrize(
    ("options", "terms", "wanted"),
    [
        (OutputOptions("full"), True, {}),
        (OutputOptions(ranef=True), True, {"ranef": 8}),
        (OutputOptions("minimal", residuals=True), True, {"residuals": 12}),
        (BOTH, True, {"ranef": 8, "residuals": 12}),
        (BOTH, False, {"residuals": 12}),
    ],
)
def test_unit_series__holds_what_the_options_ask_for(tmp_path, options, terms, wanted):
    made = unit(tmp_path, output_options=options, design=design(terms=terms))
    assert {key: len(specs) for key, specs in unit_series(made).items()} == wanted
    costs = series_costs(made, 1000)
    assert [(cost.key, cost.n_maps, cost.n_bytes) for cost in costs] == [
        (key, n, 4000 * n) for key, n in wanted.items()
    ]


def test_unit_series__takes_the_subject_from_the_directory_where_the_name_lacks_it(tmp_path):
    made = unit(tmp_path, output_options=OutputOptions(residuals=True))
    bare = tuple(path.with_name("stat-effect_statmap.nii.gz") for path in made.paths)
    names = [spec.filename for spec in unit_series(replace(made, paths=bare))["residuals"]]
    assert names[0] == "sub-01_ses-1_stat-residual_statmap.nii.gz"
    assert len(set(names)) == 12


def test_check_names__sees_the_series_of_all_groups(tmp_path):
    made = unit(tmp_path, output_options=OutputOptions(residuals=True))
    with pytest.raises(ModelSpecError, match="stat-residual"):
        check_names([made, replace(made, group={"contrast": "houses"})])


def slabs_of(values, n_together):
    def cut(key):
        for start in range(0, len(values[key]), n_together):
            yield values[key][start : start + n_together]

    return cut


def made_up(made):
    rng = np.random.default_rng(1)
    sizes = {key: len(specs) for key, specs in unit_series(made).items()}
    values = {key: rng.normal(size=(n, len(VOXELS))).astype(np.float32) for key, n in sizes.items()}
    values["residuals"][:, 3] = np.nan
    return values


@pytest.mark.parametrize("n_together", [1, 5, 100])
def test_write_unit__writes_series_slab_by_slab(tmp_path, n_together):
    made, ran = unit(tmp_path / "in", output_options=BOTH), run(tmp_path / "out", tmp_path / "in")
    values = made_up(made)
    result = write_unit(ran, made, blocks(made), tmp_path / "work", slabs_of(values, n_together))
    for key, specs in unit_series(made).items():
        for spec, inside in zip(specs, values[key], strict=True):
            volume = nib.load(result.directory / spec.filename)
            assert volume.get_data_dtype() == np.float32
            flat = np.asarray(volume.dataobj).ravel()
            np.testing.assert_array_equal(flat[VOXELS], inside)
            assert np.count_nonzero(np.delete(flat, VOXELS)) == 0
    there = {path for path in result.directory.iterdir() if path.is_file()}
    assert set(result.files) == there


def test_write_unit__says_in_sidecars_what_each_map_is_of(tmp_path):
    made, ran = unit(tmp_path / "in", output_options=BOTH), run(tmp_path / "out", tmp_path / "in")
    result = write_unit(ran, made, blocks(made), tmp_path / "work", slabs_of(made_up(made), 7))
    series = unit_series(made)
    mode = json.loads((result.directory / series["ranef"][3].sidecar_name).read_text())
    assert mode["RandomEffect"] == {"Factor": "subject", "Effects": ["age"], "Level": "02"}
    assert mode["Statistic"] == "ranef"
    [table] = mode["Sources"]
    assert table.endswith("_desc-inputs_design.tsv")
    assert (ran.output_dir / table.removeprefix("bids::")).is_file()
    residual = json.loads((result.directory / series["residuals"][1].sidecar_name).read_text())
    assert residual["Sources"] == [
        "bids:source:sub-01/ses-2/func/sub-01_ses-2_task-nback_stat-effect_statmap.nii.gz"
    ]


def test_stored_fit__sums_series_up(tmp_path):
    made, ran = unit(tmp_path / "in", output_options=BOTH), run(tmp_path / "out", tmp_path / "in")
    result = write_unit(ran, made, blocks(made), tmp_path / "work", slabs_of(made_up(made), 7))
    stored = stored_fit(ran, result)
    assert [series.n_maps for series in stored.series] == [8, 12]
    listed = {entry.file for entry in stored.maps}
    assert not any("ranef" in name or "residual" in name for name in listed)


def test_write_unit__refuses_values_for_other_maps(tmp_path):
    made, ran = unit(tmp_path / "in", output_options=BOTH), run(tmp_path / "out", tmp_path / "in")
    values = {key: array[:-1] for key, array in made_up(made).items()}
    with pytest.raises(OutputError, match=r"7 maps of 'ranef', wanted 8"):
        write_unit(ran, made, blocks(made), tmp_path / "work", slabs_of(values, 5))


def volume(path):
    return np.asarray(nib.load(path).dataobj).ravel()


def test_app__writes_modes_and_residuals_of_sleepstudy(shared_data, tmp_path, monkeypatch):
    root = shared_data / "sleepstudy"
    out, work = tmp_path / "out", tmp_path / "work"
    arguments = [str(root), str(out), "group", "-m", str(root / "model.json"), "-w", str(work)]
    arguments += ["--nprocs", "1", "-q"]
    assert main(arguments) == 0
    fitted = {path: path.stat().st_mtime_ns for path in work.glob("fit-*/block-*.npz")}
    # Three maps a slab: a limit far below any real one.
    node = out / "node-group"
    n_voxels = np.count_nonzero(volume(next(node.glob("*_desc-analysis_mask.nii.gz"))))
    monkeypatch.setattr(records, "SLAB_BYTES", 3 * 4 * n_voxels)
    assert main([*arguments, "--outputs", "default,ranef,residuals"]) == 0
    # Only modes and residuals were computed: the fit was there.
    assert {path: path.stat().st_mtime_ns for path in work.glob("fit-*/block-*.npz")} == fitted
    modes, residuals = sorted(node.glob("*stat-ranef*.nii.gz")), sorted(node.glob("*stat-residual*.nii.gz"))
    assert (len(modes), len(residuals)) == (18 * 2, 180)

    def one(pattern):
        [path] = node.glob(f"{pattern}.nii.gz")
        return volume(path)

    images = {path.name: volume(path) for path in sorted(root.glob("sub-*/ses-*/func/*.nii.gz"))}
    first = images["sub-308_ses-00_task-pvt_space-MNI152Lin_stat-effect_statmap.nii.gz"]
    published = np.flatnonzero(np.isclose(first, 249.56, atol=1e-4))[0]
    assert one("*param-subject+Intercept+308_*")[published] == pytest.approx(2.2586, abs=PRINTED)
    assert one("*param-subject+Days+308_*")[published] == pytest.approx(9.1990, abs=PRINTED)
    inside = one("*desc-analysis_mask") != 0
    beta = one("*param-Intercept_stat-beta*"), one("*param-Days_stat-beta*")
    for name, y in images.items():
        subject, day = name[4:7], int(name.split("_ses-")[1][:2])
        b = one(f"*param-subject+Intercept+{subject}_*"), one(f"*param-subject+Days+{subject}_*")
        fit = beta[0] + b[0] + day * (beta[1] + b[1])
        residual = volume(node / name.replace("stat-effect", "stat-residual"))
        np.testing.assert_allclose(residual[inside], (y - fit)[inside], atol=FLOAT32 * np.abs(y).max() * 10)
    log = (out / "logs" / "blmm_bids.log").read_text()
    assert "ranef adds 36 maps" in log
    assert "residuals adds 180 maps" in log
    settings = json.loads(next((out / "logs").glob("*settings*.json")).read_text())
    assert settings["OutputSeries"] == ["ranef", "residuals"]
    page = (out / "node-group.html").read_text()
    assert "180 maps more" in page
    assert page.count("stat-residual") <= 4
