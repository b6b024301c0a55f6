"""The output dataset as others see it: the validator, pybids and nilearn."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.bids.names import CONFIG_FILE
from blmm_bids.errors import ModelSpecError
from blmm_bids.outputs.records import ComparisonOutputs
from blmm_bids.outputs.registry import OutputOptions
from blmm_bids.outputs.write import check_names, leftover_files, write_comparison, write_outputs
from blmm_bids.report.page import write_reports
from tests.outputs.synthetic import VOXELS, blocks, run, unit

VALIDATOR = Path(sysconfig.get_path("scripts")) / "bids-validator-deno"


def write_all(root: Path, name: str = "out"):
    """Two nodes, one of them in two groups, with report, figures and log."""
    inputs = root / "in put"
    inputs.mkdir(exist_ok=True)
    made = run(root / name, inputs)
    full = unit(inputs, output_options=OutputOptions("full"))
    units = [full, replace(full, group={"contrast": "houses"}), unit(inputs, node="base", group={})]
    files, results = write_outputs(made, [(fit, blocks(fit)) for fit in units], root / "work")
    pages = write_reports(made.output_dir)
    (made.output_dir / "logs" / "blmm.log").write_text("log")
    return made, [*files, *pages], results


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("dataset"))


def test_write_outputs__lists_exactly_what_it_wrote(dataset):
    made, files, _ = dataset
    # The report's own: figures, tables of clusters, methods text.
    others = re.compile(r"figures/|_clusters\.|CITATION\.|blmm\.log|index\.html")
    there = {path for path in made.output_dir.rglob("*") if path.is_file() and not others.search(str(path))}
    assert set(files) == there
    assert len(files) == len(set(files))


def test_write_outputs__passes_the_bids_validator(dataset):
    made, _, _ = dataset
    done = subprocess.run(
        [VALIDATOR, "--format", "json", made.output_dir],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0


def test_write_outputs__gives_equal_bytes_when_run_again(dataset, tmp_path):
    made, files, _ = dataset
    again, others, _ = write_all(tmp_path)
    assert [path.relative_to(made.output_dir) for path in files] == [
        path.relative_to(again.output_dir) for path in others
    ]
    for one, other in zip(files, others, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


@pytest.mark.parametrize("config", [None, ["bids", "derivatives", str(CONFIG_FILE)]])
def test_write_outputs__is_read_by_pybids_with_metadata(dataset, config):
    from bids import BIDSLayout, BIDSLayoutIndexer

    made, _, _ = dataset
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=True)
    layout = BIDSLayout(made.output_dir, validate=False, is_derivative=True, config=config, indexer=indexer)
    maps = layout.get(suffix="statmap", extension=".nii.gz", task="nback")
    assert len(maps) > 60
    if config is None:
        return
    found = layout.get(stat="t", contrast="facesAgeEffect", suffix="statmap", extension=".nii.gz")
    assert len(found) == 1
    assert found[0].get_metadata()["ContrastName"] == "age effect"
    betas = layout.get(param="sexTM", stat="beta", contrast="faces", extension=".nii.gz")
    assert [beta.get_metadata()["RegressorName"] for beta in betas] == ["sex[T.M]"]


def test_write_outputs__is_read_by_nilearn(dataset):
    from nilearn.image import load_img
    from nilearn.masking import apply_mask

    _, _, results = dataset
    stem = "task-nback_run-1_space-MNI152NLin2009cAsym_contrast-faces"
    mask = load_img(str(results[0].directory / f"{stem}_desc-analysis_mask.nii.gz"))
    values = apply_mask(str(results[0].directory / f"{stem}_stat-n_statmap.nii.gz"), mask)
    assert values.shape == VOXELS.shape
    assert values[0] == 2


def test_write_outputs__maps_are_drawn_by_nilearn(dataset):
    import matplotlib

    matplotlib.use("Agg")
    from nilearn.plotting import plot_stat_map

    _, _, results = dataset
    z = next(results[0].directory.glob("*facesAgeEffect_stat-z_statmap.nii.gz"))
    drawn = plot_stat_map(str(z), bg_img=None, threshold=0.5)
    assert drawn.cut_coords is not None
    drawn.close()


def test_write_comparison__writes_maps_and_sidecars_of_the_test(tmp_path):
    made = run(tmp_path, tmp_path)
    comparison = ComparisonOutputs(
        directory=tmp_path / "node-slopes",
        larger="slopes",
        smaller="base",
        larger_formula="y ~ age + (age | subject)",
        smaller_formula="y ~ age + (1 | subject)",
        reml=True,
        distribution="0.5 chi2(1) + 0.5 chi2(2)",
        grid=unit(tmp_path).grid,
        voxels=VOXELS,
        chi2=np.arange(20.0) + 1e-9,
        logp=np.full(20, np.nan),
        sources=("bids::node-slopes/stat-logLikelihood_statmap.nii.gz",),
        notice="swapped",
    )
    files = write_comparison(made, comparison)
    assert [path.name for path in files] == [
        f"desc-slopesVsBase_stat-{stat}_statmap{extension}"
        for extension in (".nii.gz", ".json")
        for stat in ("chi2", "logp")
    ]
    image = nib.load(files[0])
    assert image.get_data_dtype() == np.float64
    np.testing.assert_array_equal(image.get_fdata().ravel()[VOXELS], comparison.chi2)
    content = json.loads(files[2].read_text())
    assert content["ReferenceDistribution"] == "0.5 chi2(1) + 0.5 chi2(2)"
    assert content["LargerModel"]["Name"] == "slopes"
    assert content["Notice"] == "swapped"


def test_leftover_files__finds_maps_that_no_run_wrote(tmp_path):
    made, _, results = write_all(tmp_path)
    directories = {result.directory for result in results}
    listed = {*made.output_dir.rglob("*_clusters.tsv"), *(path for each in results for path in each.files)}
    assert leftover_files(directories, listed) == []
    old = results[0].directory / "contrast-old_stat-t_statmap.nii.gz"
    old.write_bytes(b"")
    assert leftover_files(directories, listed) == [old]
    assert leftover_files(directories, {old, *listed}) == []


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ({"node": "group model"}, {"node": "groupModel"}, "share 'node-groupModel'"),
        (
            {"group": {"contrast": "a", "stat": "effect"}},
            {"group": {"contrast": "a", "desc": "effect"}},
            "would both write",
        ),
    ],
)
def test_check_names__refuses_fits_that_would_overwrite_each_other(tmp_path, first, second, wanted):
    units = [unit(tmp_path, **first), unit(tmp_path, **second)]
    with pytest.raises(ModelSpecError, match=wanted):
        check_names(units)


def test_check_names__accepts_groups_and_nodes_of_distinct_names(tmp_path):
    check_names(
        [unit(tmp_path), unit(tmp_path, group={"contrast": "houses"}), unit(tmp_path, node="base", group={})]
    )
