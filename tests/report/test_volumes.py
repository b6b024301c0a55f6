"""Volumes in the page hold the map to a hundredth, small and in place."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np

from blmm_bids.report import volumes
from blmm_bids.report.volumes import EmbeddedVolume, embed, within_budget

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, -30], [0, 0, 0, 1]])


def opened(volume):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(volume.data)))


def test_embed__rounds_crops_and_keeps_the_place():
    values = np.zeros((12, 10, 8))
    values[3:7, 2:6, 4:6] = np.random.default_rng(2).normal(size=(4, 4, 2)) * 3
    values[3, 2, 4] = np.nan
    volume = embed(values, AFFINE, name="z", group="g", kind="statistic", threshold=3.0912345)
    image = opened(volume)
    assert image.shape == (4, 4, 2)
    wanted = np.nan_to_num(values[3:7, 2:6, 4:6])
    np.testing.assert_allclose(image.get_fdata(), wanted, atol=0.5001 * np.abs(wanted).max() / 100)
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], AFFINE @ [3, 2, 4, 1])
    assert volume.threshold == 3.0912


def test_embed__thins_large_maps(monkeypatch):
    monkeypatch.setattr(volumes, "MAX_VOXELS", 100)
    image = opened(embed(np.ones((12, 12, 12)), AFFINE, name="n", group="", kind="amount"))
    assert image.shape == (4, 4, 4)
    np.testing.assert_allclose(image.affine[:3, :3], 3 * AFFINE[:3, :3])


def test_embed__of_zeros_is_nothing():
    assert embed(np.zeros((2, 2, 2)), AFFINE, name="z", group="", kind="amount") is None


def test_within_budget__keeps_the_first_and_names_the_rest():
    def of(name, size):
        return EmbeddedVolume(name, "", "amount", "x" * size, 1.0, 0.0)

    half = volumes.MAX_BYTES // 2
    kept, omitted = within_budget([of("a", half), of("b", 2 * half), of("c", 10)])
    assert [each.name for each in kept] == ["a", "c"]
    assert omitted == ["b"]
