"""Slices show each voxel where it is, in its colour, and nothing below the threshold."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from blmm_bids.report.slices import AMOUNT, N_SLICES, POSITIVE, STATISTIC, colours, paint_slices

# x runs from right to left in the file, as it often does.
AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -40], [0, 0, 2, -20], [0, 0, 0, 1]])
SHAPE = (30, 40, 20)


def of(values):
    return nib.Nifti1Image(values.astype(np.float32), AFFINE)


def painted(values, palette, threshold, background=None):
    below = np.zeros(SHAPE) if background is None else background
    return paint_slices(of(values), of(below), palette, threshold).astype(int)


def coloured(picture):
    """Pixels of the slices, without the scale, that are not grey."""
    body = picture[:, :-80]
    return np.argwhere(np.ptp(body, axis=-1) > 20)


def test_paint_slices__puts_left_on_the_left_and_front_on_top():
    values = np.zeros(SHAPE)
    values[..., :] = 0.1
    # Voxel 25 of a file that runs to the left is on the left; 35 of 40 is in front.
    values[24:27, 34:37, :] = 5.0
    picture = painted(values, STATISTIC, 1.0)
    rows, columns = coloured(picture).T
    width = (picture.shape[1] - 74) / N_SLICES
    within = columns % width
    assert within.max() < width / 2
    assert rows.max() < picture.shape[0] / 2
    assert len(np.unique((columns // width).astype(int))) == N_SLICES
    wanted = np.array(colours(STATISTIC.cmap)(1.0)[:3]) * 255
    np.testing.assert_allclose(picture[rows[5], columns[5]], wanted, atol=1.5)


def test_paint_slices__of_a_positive_statistic_uses_the_warm_half():
    values = np.zeros(SHAPE)
    values[10:20, 10:30, 5:15] = 4.0
    picture = painted(values, POSITIVE, 1.0)
    rows, columns = coloured(picture).T
    wanted = np.array(colours(STATISTIC.cmap)(1.0)[:3]) * 255
    np.testing.assert_allclose(picture[rows[5], columns[5]], wanted, atol=1.5)
    blue = picture[:, -80:, 2].astype(int) - picture[:, -80:, 0]
    assert blue.max() < 20


def test_paint_slices__hides_what_does_not_pass():
    values = np.full(SHAPE, 0.5)
    values[10, 10, 10] = 4.0
    assert len(coloured(painted(values, STATISTIC, 4.5))) == 0
    assert len(coloured(painted(values, AMOUNT, 0.0))) > 1000


def test_paint_slices__shows_the_background_in_grey():
    values = np.zeros(SHAPE)
    values[10, 10, 10] = 1.0
    background = np.zeros(SHAPE)
    background[5:25, 5:35, 2:18] = 100.0
    picture = painted(values, STATISTIC, 2.0, background)
    assert (picture[..., 0] > 200).mean() > 0.3


def test_paint_slices__of_nothing_is_a_picture():
    picture = painted(np.zeros(SHAPE), STATISTIC, 0.0)
    assert picture.shape[2] == 3
    assert len(coloured(picture)) == 0
