"""What a 0 is, from the images' names to the maps, the log, the report and the tables."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.cli import main
from tests.datasets import SHAPE, describe, write_image, write_json

N_IMAGES = 10


@pytest.fixture
def build(tmp_path):
    """Make ten images of a kind, a third of whose values are 0."""

    def make(ending):
        root = describe(tmp_path / "data")
        rng = np.random.default_rng(3)
        for number in range(1, N_IMAGES + 1):
            values = np.where(rng.random(SHAPE) < 0.3, 0, 0.8 + 0.1 * rng.random(SHAPE))
            write_image(root / f"sub-{number:02d}" / f"sub-{number:02d}_space-MNI_{ending}.nii.gz", values)
        return root

    return make


def run(root, ending, capsys, *options, blmm=None):
    node = {"Level": "Dataset", "Name": "group", "Model": {"X": [1], "Software": {"blmm": blmm or {}}}}
    spec = {
        "Name": "m",
        "BIDSModelVersion": "1.0.0",
        "Input": {"suffix": ending.split("_")[-1]},
        "Nodes": [node],
    }
    model = write_json(root.parent / "model.json", spec)
    out = root.parent / "out"
    assert main([str(root), str(out), "group", "--model", str(model), "--nprocs", "1", *options]) == 0
    (n_map,) = out.rglob("*stat-n_statmap.nii.gz")
    (table,) = out.rglob("*desc-inputs_design.json")
    notes = json.loads(table.read_text())["Notes"]
    (page,) = out.glob("node-*.html")
    return nib.load(n_map).get_fdata(), capsys.readouterr().err, notes, page.read_text()


@pytest.mark.parametrize(
    ("ending", "options", "blmm", "note"),
    [
        ("label-GM_probseg", (), {}, "zeros are data: probseg maps (0 is none of the tissue or region)"),
        ("something", ("--zeros", "data"), {"Zeros": "missing"}, "zeros are data: --zeros says so"),
        ("something", (), {"Zeros": "data"}, "zeros are data: Zeros in the model spec says so"),
    ],
)
def test_run__zeros_that_are_data_are_fitted(build, capsys, ending, options, blmm, note):
    n, text, notes, page = run(build(ending), ending, capsys, *options, blmm=blmm)
    assert (n == N_IMAGES).all()
    assert note in text
    assert notes == [f"{note}; --zeros missing for otherwise"]
    assert note in page
    assert "exactly 0" not in text


@pytest.mark.parametrize(
    ("ending", "note"),
    [
        ("something", "something maps (of no kind that is known)"),
        ("stat-z_statmap", "statmap maps (0 outside of the brain)"),
    ],
)
def test_run__many_zeros_that_are_missing_draw_a_warning(build, capsys, ending, note):
    n, text, notes, page = run(build(ending), ending, capsys)
    assert 0 < n[n > 0].mean() < N_IMAGES
    assert f"zeros count as missing: {note}" in text
    assert note in notes[0]
    warning = f"{N_IMAGES} of {N_IMAGES} images are exactly 0 at more than 1 % of the voxels of the mask"
    assert warning in text
    assert warning in page
    assert "give --zeros data" in text
