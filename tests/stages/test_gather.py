"""Work that exhausts its workers is cut smaller; no bit of a result depends on the cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.cluster import SynchronousRunner
from blmm_bids.errors import DataError, ExhaustedError
from blmm_bids.images.reader import MissingRule
from blmm_bids.outputs.gather import sampled_voxels
from blmm_bids.outputs.parts import read_block
from blmm_bids.outputs.workdir import WorkDir
from blmm_bids.stages import Problem, fit_block, gather, gather_smaller, plan_fit, prepare, zero_warnings
from blmm_bids.stages.fit import _task
from blmm_bids.stats.model import Contrast, Design, FitOptions, RandomTerm

SHAPE = (5, 6, 7)
N_OBS = 24


@pytest.fixture
def problem(tmp_path):
    rng = np.random.default_rng(8)
    subject = np.repeat(np.arange(8), 3)
    X = np.column_stack([np.ones(N_OBS), np.tile([0.0, 1, 2], 8)])
    term = RandomTerm("subject", tuple("abcdefgh"), subject, np.ones((N_OBS, 1)), ("Intercept",))
    images = []
    for index in range(N_OBS):
        values = rng.normal(size=SHAPE).astype(np.float32)
        values[rng.random(SHAPE) < 0.1] = np.nan
        images.append(tmp_path / f"{index}.nii")
        nib.Nifti1Image(values, np.eye(4)).to_filename(images[-1])
    design = Design(X, ("Intercept", "time"), (term,))
    contrasts = (Contrast("time", np.array([[0.0, 1.0]]), "t"),)
    return Problem(
        design, contrasts, FitOptions(), tuple(images), ((),) * N_OBS, None, MissingRule(), 4,
        ("ranef", "residuals"),
    )  # fmt: skip


@dataclass(frozen=True)
class Weak(SynchronousRunner):
    """Workers that die of batches above a size, as the runner of a cluster reports it."""

    most: int = 2

    def map(self, function, items, *, label, shared=()):
        for index, item in enumerate(items):
            if label == "batch" and len(item.images) > self.most:
                msg = f"{label} {index}: 3 workers died while they had it"
                raise ExhaustedError(msg)
            yield index, function(item, *shared)


def test_gather_smaller__cuts_until_workers_live(problem, tmp_path, caplog):
    runner = Weak()
    prepared = prepare(problem, runner, 1e-3)
    assert prepared.work.batch_obs > 2
    work = WorkDir.open(tmp_path / "w")
    with caplog.at_level("WARNING", logger="blmm_bids"):
        smaller, gathered = gather_smaller(runner, work, prepared)
    assert smaller.work.batch_obs <= 2
    assert "3 workers died" in caplog.text
    whole = gather(SynchronousRunner(), WorkDir.open(tmp_path / "v"), prepared)
    np.testing.assert_array_equal(gathered.counts, whole.counts)
    found, expected = (
        np.concatenate([read_block(made.parts, block.index) for block in cut.work.blocks])
        for made, cut in ((gathered, smaller), (whole, prepared))
    )
    np.testing.assert_array_equal(found, expected)
    # The next run is told of the smaller cut and finds its parts.
    cut = (smaller.work.batch_obs, smaller.work.block_voxels)
    assert prepare(problem, runner, 1e-3, earlier_cut=cut).digest == smaller.digest


def test_gather_smaller__gives_up_on_a_single_image(problem, tmp_path):
    runner = Weak(most=0)
    with pytest.raises(ExhaustedError):
        gather_smaller(runner, WorkDir.open(tmp_path / "w"), prepare(problem, runner, 1e-3))


@pytest.mark.parametrize("n_pieces", [2, 7, 1000])
def test_fit_block__pieces_change_no_bit(problem, tmp_path, n_pieces):
    runner, work = SynchronousRunner(), WorkDir.open(tmp_path / "w")
    prepared = prepare(problem, runner, 1e-3)
    fitted = plan_fit(work, prepared, gather(runner, work, prepared))
    pieces = replace(fitted, stage=work.fit("f" * 64))
    for span in fitted.spans:
        assert fit_block(span, _task(fitted)) == fit_block(span, _task(pieces), n_pieces)
        for kind in ("block", "ranef", "residuals"):
            whole = fitted.stage.load_result(span.index, kind=kind)
            cut = pieces.stage.load_result(span.index, kind=kind)
            assert whole.keys() == cut.keys()
            for name, values in whole.items():
                np.testing.assert_array_equal(cut[name], values, err_msg=name)


@pytest.mark.parametrize(("value", "word"), [(0.0, "no value"), (np.inf, "no value"), (7.0, "same value")])
def test_gather__refuses_images_that_hold_nothing(problem, tmp_path, value, word):
    nib.Nifti1Image(np.full(SHAPE, value, np.float32), np.eye(4)).to_filename(problem.images[3])
    runner, work = SynchronousRunner(), WorkDir.open(tmp_path / "w")
    with pytest.raises(DataError, match=rf"1 of 24 images have .*{word}(.|\n)*3\.nii"):
        gather(runner, work, prepare(problem, runner, 1e-3))
    # Where 0 is a value, a map of one value may be real.
    if word == "same value":
        lesions = replace(problem, rule=MissingRule(zeros="data"))
        assert gather(runner, work, prepare(lesions, runner, 1e-3)).counts.max() == N_OBS


def test_gather__says_which_images_hold_infinite_values(problem, tmp_path):
    values = np.ones(SHAPE, np.float32)
    values.flat[:5] = np.inf
    values.flat[5] = 2
    nib.Nifti1Image(values, np.eye(4)).to_filename(problem.images[3])
    runner = SynchronousRunner()
    gathered = gather(runner, WorkDir.open(tmp_path / "w"), prepare(problem, runner, 1e-3))
    assert gathered.warnings == (
        "1 of 24 images hold infinite values, which count as missing; most of them 3.nii, at 5 voxels",
    )


@pytest.mark.parametrize(
    ("rule", "share", "says"),
    [
        (MissingRule(), 0.3, True),
        (MissingRule(), 0.004, False),
        (MissingRule(zeros="data"), 0.3, False),
        # Below the threshold anyhow: that zeros were data would change nothing.
        (MissingRule(threshold=0.1), 0.3, False),
        (MissingRule(threshold=-5.0), 0.3, True),
    ],
)
def test_gather__counts_zeros_in_the_mask(problem, tmp_path, rule, share, says):
    size = int(np.prod(SHAPE))
    n_zero = round(share * size)
    values = np.linspace(0.5, 1, size)
    values[:n_zero] = 0
    values = values.reshape(SHAPE)
    nib.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(problem.images[3])
    runner = SynchronousRunner()
    prepared = prepare(replace(problem, rule=rule), runner, 1e-3)
    gathered = gather(runner, WorkDir.open(tmp_path / "w"), prepared)
    shares = gathered.images["zero_share"]
    assert shares[3] == n_zero / size
    assert not np.delete(shares, 3).any()
    warnings = zero_warnings(problem.images, shares, rule)
    assert bool(warnings) is says
    if says:
        assert "1 of 24 images are exactly 0 at more than 1 %" in warnings[0]
        assert f"3.nii, at {100 * n_zero / size:.3g} %" in warnings[0]
        assert "--zeros data" in warnings[0]


def test_gather__zeros_outside_of_an_images_own_mask_do_not_count(problem, tmp_path):
    values = np.linspace(0.5, 1, int(np.prod(SHAPE))).reshape(SHAPE)
    values[:2] = 0
    nib.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(problem.images[3])
    inside = np.ones(SHAPE, np.uint8)
    inside[:2] = 0
    nib.Nifti1Image(inside, np.eye(4)).to_filename(tmp_path / "mask.nii")
    masks = tuple((tmp_path / "mask.nii",) if obs == 3 else () for obs in range(N_OBS))
    runner = SynchronousRunner()
    prepared = prepare(replace(problem, masks=masks), runner, 1e-3)
    gathered = gather(runner, WorkDir.open(tmp_path / "w"), prepared)
    assert gathered.images["zero_share"][3] == 0


@pytest.mark.parametrize("n_voxels", [1, 7, 16_384, 16_385, 902_629])
def test_sampled_voxels__are_spread_over_all(n_voxels):
    sampled = sampled_voxels(n_voxels)
    assert sampled.size == min(n_voxels, 16_384)
    assert (np.diff(sampled) >= 1).all()
    assert sampled[0] == 0
    assert sampled[-1] >= n_voxels - n_voxels // 8000 - 1
