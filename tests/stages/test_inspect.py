"""The inspector's data are the images' values, and its fitted values what the residual maps leave."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from blmm_bids.cli import main
from tests.datasets import longitudinal

# Five digits are kept, and residual maps are float32.
DIGITS = 2e-4


def test_read_voxels__are_the_images_values_and_the_fits(tmp_path):
    dataset = longitudinal(tmp_path / "data", subjects=("01", "02", "03", "04", "05", "06"))
    path = sorted(dataset.rglob("*stat-effect_statmap.nii.gz"))[4]
    image = nib.load(path)
    values = image.get_fdata(dtype=np.float32)
    values[:, 1, :] = np.nan
    nib.Nifti1Image(values, image.affine).to_filename(path)
    out = tmp_path / "out"
    arguments = [str(dataset), str(out), "group", "--nprocs", "1", "-q", "--outputs", "default,residuals"]
    arguments += ["--formula", "1 + time + (1 | subject)", "--threshold", "z>0.1", "--cluster-min", "1"]
    assert main(arguments) == 0
    (node,) = out.glob("node-*/")
    (file,) = (node / "figures").glob("*_voxels.json")
    voxels = json.loads(file.read_text())["Voxels"]
    assert len(voxels) >= 3
    inputs = pd.read_csv(next(node.glob("*_desc-inputs_design.tsv")), sep="\t").sort_values("design_row")
    for voxel in voxels:
        place = tuple(voxel["ijk"])
        for row, uri in enumerate(inputs["image"]):
            source = dataset / uri.removeprefix("bids:source:")
            wanted = float(nib.load(source).dataobj[place])
            if np.isnan(wanted):
                assert voxel["y"][row] is None
                assert voxel["fitted"][row] is None
                continue
            assert voxel["y"][row] == pytest.approx(wanted, rel=DIGITS, abs=DIGITS)
            stem = source.name.split("_stat-")[0]
            (residual,) = node.glob(f"{stem}*_stat-residual_statmap.nii.gz")
            left = float(nib.load(residual).dataobj[place])
            assert voxel["y"][row] - voxel["fitted"][row] == pytest.approx(left, rel=DIGITS, abs=DIGITS)
        (beta,) = node.glob("*_param-time_stat-beta_statmap.nii.gz")
        assert voxel["beta"][1] == pytest.approx(float(nib.load(beta).dataobj[place]), rel=DIGITS)
