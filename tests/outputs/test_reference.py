from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.config.reference import (
    ReferenceConfig,
    ReferenceContrast,
    ReferenceFactor,
    read_reference_config,
)
from blmm_bids.errors import OutputError
from blmm_bids.images.grid import Grid
from blmm_bids.outputs.reference import (
    SIGNATURE,
    check_outdir,
    inputs_text,
    list_files,
    remove_stale,
    write_comparison,
    write_reference_outputs,
)
from blmm_bids.outputs.volumes import opened_volumes
from blmm_bids.stats.model import Contrast, Status
from tests.outputs.synthetic import AFFINE, SHAPE, VOXELS, blocks, design, results, unit

GRID = Grid(SHAPE, AFFINE, (3.0, 3.0, 4.0), sform_code=4, qform_code=4)
# An F contrast comes first: T volumes and F volumes are counted apart.
CONTRASTS = (
    Contrast("any", np.array([[0.0, 1, 0], [0, 0, 1]]), "F"),
    Contrast("age", np.array([[0.0, 1, 0]]), "t"),
    Contrast("sex", np.array([[0.0, 0, 1]]), "t"),
)


def config(root, **changes):
    lists = root / "lists"
    lists.mkdir(exist_ok=True)
    (lists / "Y.txt").write_text("".join(f"sub{number}.nii\n" for number in range(12)))
    (root / "blmm_config.yml").touch()
    plain = ReferenceConfig(
        path=root / "blmm_config.yml",
        images_list=lists / "Y.txt",
        images=tuple(lists / f"sub{number}.nii" for number in range(12)),
        design_file=lists / "X.csv",
        outdir=root / "out",
        contrasts=tuple(
            ReferenceContrast(contrast.name, tuple(map(tuple, contrast.L.tolist())), contrast.test)
            for contrast in CONTRASTS
        ),
        factors=(ReferenceFactor("subject", lists / "f.csv", lists / "d.csv"),),
    )
    return replace(plain, **changes)


def fit(root):
    return replace(unit(root), contrasts=CONTRASTS)


def write(root, size=7, **changes):
    settings = config(root, **changes)
    write_reference_outputs(settings, design(), CONTRASTS, GRID, VOXELS, blocks(fit(root), size))
    return settings.outdir


def values_of(path):
    return np.asarray(nib.load(path).dataobj)


EXPECTED = {
    # name after blmm_vox_: (volumes, type on disk, key of the results)
    "mask": (1, "uint8", None),
    "n": (1, "int32", "n"),
    "edf": (1, "float32", "edf"),
    "beta": (3, "float32", "beta"),
    "sigma2": (1, "float32", "sigma2"),
    "D": (3, "float32", "D"),
    "resms": (1, "float32", "resms"),
    "cov": (9, "float32", "vcov"),
    "llh": (1, "float64", "logLikelihood"),
    "con": (2, "float32", ("c1_effect", "c2_effect")),
    "conSE": (2, "float32", ("c1_se", "c2_se")),
    "conT": (2, "float32", ("c1_t", "c2_t")),
    "conT_swedf": (2, "float32", ("c1_dof", "c2_dof")),
    "conTlp": (2, "float32", ("c1_logp", "c2_logp")),
    "conF": (1, "float32", ("c0_F",)),
    "conF_swedf": (1, "float32", ("c0_dof",)),
    "conFlp": (1, "float32", ("c0_logp",)),
    "conR2": (1, "float32", ("c0_partialR2",)),
}


def test_write_reference_outputs__names_and_shapes(tmp_path):
    out = write(tmp_path)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(f"blmm_vox_{name}.nii" for name in EXPECTED), "inputs.yml"]
    )
    for name, (n_volumes, dtype, _) in EXPECTED.items():
        image = nib.load(out / f"blmm_vox_{name}.nii")
        assert isinstance(image, nib.Nifti1Image)
        assert image.shape == (SHAPE if n_volumes == 1 else (*SHAPE, n_volumes))
        assert image.get_data_dtype() == np.dtype(dtype)
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
        assert image.header.get_xyzt_units()[0] == "mm"


def test_write_reference_outputs__values_and_orders(tmp_path):
    out = write(tmp_path)
    found = results(fit(tmp_path))
    fitted = VOXELS[1:]
    for name, (n_volumes, dtype, key) in EXPECTED.items():
        if key is None:
            columns = np.ones((len(VOXELS), 1))
        elif isinstance(key, tuple):
            columns = np.column_stack([found[part] for part in key])
        else:
            columns = found[key].reshape(len(VOXELS), -1)
        volume = values_of(out / f"blmm_vox_{name}.nii").reshape(-1, n_volumes)
        np.testing.assert_array_equal(volume[fitted], columns[1:].astype(dtype), err_msg=name)
        # Outside the mask, and where nothing could be fitted, all maps are 0.
        assert not volume[np.setdiff1d(np.arange(60), fitted)].any()


def test_write_reference_outputs__cov_volume_is_row_times_p_plus_column(tmp_path):
    volume = values_of(write(tmp_path) / "blmm_vox_cov.nii")
    vcov = results(fit(tmp_path))["vcov"].astype("float32")
    voxel = np.unravel_index(VOXELS[5], SHAPE)
    assert volume[voxel][1 * 3 + 2] == vcov[5, 1, 2]


@pytest.mark.parametrize("size", [1, 20])
def test_write_reference_outputs__bytes_do_not_depend_on_the_blocks(tmp_path, size):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = write(tmp_path / "a"), write(tmp_path / "b", size)
    for name in EXPECTED:
        assert (first / f"blmm_vox_{name}.nii").read_bytes() == (second / f"blmm_vox_{name}.nii").read_bytes()


@pytest.mark.parametrize("size", [1, 6, 20])
def test_write_reference_outputs__keeps_values_beyond_float32(tmp_path, size):
    settings = config(tmp_path)
    found = results(fit(tmp_path))
    found["resms"][5:] *= 1e-45
    found["vcov"][7, 1, 2] = 1e40
    cut = [
        (
            VOXELS[i : i + size],
            {name: v if name == "missing" else v[i : i + size] for name, v in found.items()},
        )
        for i in range(0, len(VOXELS), size)
    ]
    write_reference_outputs(settings, design(), CONTRASTS, GRID, VOXELS, cut)
    resms = values_of(settings.outdir / "blmm_vox_resms.nii")
    assert resms.dtype == np.float64
    wanted = np.where(np.arange(20) < 5, found["resms"].astype(np.float32), found["resms"])
    np.testing.assert_array_equal(resms.ravel()[VOXELS][1:], wanted[1:])
    cov = values_of(settings.outdir / "blmm_vox_cov.nii").reshape(-1, 9)
    assert cov.dtype == np.float64
    assert cov[VOXELS[7], 5] == 1e40
    assert cov[VOXELS[6], 5] == np.float32(found["vcov"][6, 1, 2])
    assert values_of(settings.outdir / "blmm_vox_sigma2.nii").dtype == np.float32


def test_write_reference_outputs__minlog_stands_for_infinity(tmp_path):
    settings = config(tmp_path, minlog=-500.0)
    found = results(fit(tmp_path))
    found["c1_logp"][3], found["c0_logp"][4], found["c2_logp"][5] = np.inf, np.inf, np.nan
    write_reference_outputs(settings, design(), CONTRASTS, GRID, VOXELS, [(VOXELS, found)])
    tlp = values_of(settings.outdir / "blmm_vox_conTlp.nii").reshape(-1, 2)
    assert tlp[VOXELS[3], 0] == 500
    assert np.isnan(tlp[VOXELS[5], 1])
    assert values_of(settings.outdir / "blmm_vox_conFlp.nii").reshape(-1)[VOXELS[4]] == 500


@pytest.mark.parametrize(
    ("changes", "terms", "contrasts", "absent"),
    [
        ({"output_cov_b": False}, True, CONTRASTS, {"cov"}),
        ({"resms": False}, True, CONTRASTS, {"resms"}),
        ({}, False, CONTRASTS, {"D"}),
        ({}, True, CONTRASTS[:1], {"con", "conSE", "conT", "conT_swedf", "conTlp"}),
        ({}, True, CONTRASTS[1:], {"conF", "conF_swedf", "conFlp", "conR2"}),
    ],
)
def test_list_files__only_what_there_is(tmp_path, changes, terms, contrasts, absent):
    files = list_files(config(tmp_path, **changes), design(terms=terms), contrasts)
    assert {file.name for file in files} == set(EXPECTED) - absent


def test_write_reference_outputs__nothing_of_an_earlier_run_stays(tmp_path):
    out = write(tmp_path)
    (out / "blmm_vox_Chi2.nii").touch()
    (out / "blmm_vox_conF.nii.gz").touch()
    (out / ".blmm_vox_n.nii.123.part").touch()
    (out / "notes.txt").touch()
    kept = CONTRASTS[1:]
    settings = config(tmp_path, output_cov_b=False)
    found = results(replace(fit(tmp_path), contrasts=kept))
    write_reference_outputs(settings, design(), kept, GRID, VOXELS, [(VOXELS, found)])
    gone = {"cov", "conF", "conF_swedf", "conFlp", "conR2"}
    assert {path.name for path in out.iterdir()} == {
        *(f"blmm_vox_{name}.nii" for name in set(EXPECTED) - gone), "inputs.yml", "notes.txt",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda parts: parts[:-1], "voxels have no result"),
        (lambda parts: [*parts, parts[0]], "holds voxels of another block"),
        (lambda parts: [(indices + 1, block) for indices, block in parts], "holds voxels of another block"),
    ],
)
def test_write_reference_outputs__leaves_the_directory_as_it_was(tmp_path, spoil, message):
    out = write(tmp_path)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputError, match=message):
        write_reference_outputs(
            config(tmp_path), design(), CONTRASTS, GRID, VOXELS, spoil(list(blocks(fit(tmp_path))))
        )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_write_reference_outputs__an_empty_mask_gives_empty_maps(tmp_path):
    none = np.empty(0, dtype=np.int64)
    write_reference_outputs(config(tmp_path), design(), CONTRASTS, GRID, none, [])
    assert not values_of(tmp_path / "out" / "blmm_vox_mask.nii").any()


def test_write_reference_outputs__never_touches_the_users_file(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    users = out / "inputs.yml"
    users.write_text("mine")
    settings = config(tmp_path, path=users)
    write_reference_outputs(settings, design(), CONTRASTS, GRID, VOXELS, blocks(fit(tmp_path)))
    assert users.read_text() == "mine"


def test_remove_stale__says_what_went(tmp_path):
    out = write(tmp_path)
    assert remove_stale(out)[:2] == ("blmm_vox_D.nii", "blmm_vox_beta.nii")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("file", "is a file; name a directory"), ("file/below", "cannot be made or written to")],
)
def test_check_outdir__refuses(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        check_outdir(tmp_path / name)


def test_check_outdir__makes_parents(tmp_path):
    check_outdir(tmp_path / "a" / "b c")
    assert list((tmp_path / "a" / "b c").iterdir()) == []


def test_inputs_text__reads_back_as_the_same_config(tmp_path):
    settings = config(
        tmp_path,
        min_percent=0.25,
        min_n=4,
        data_mask_threshold=0.5,
        n_nodes=3,
        analysis_mask=tmp_path / "m.nii",
    )
    text = inputs_text(settings)
    assert text.startswith(SIGNATURE)
    path = tmp_path / "inputs.yml"
    path.write_text(text)
    assert read_reference_config(path) == replace(settings, path=path)


def test_write_comparison__three_files(tmp_path):
    maps = {"chi2": np.linspace(0, 9, len(VOXELS)), "logp": np.linspace(0, 3, len(VOXELS))}
    maps["chi2"][2] = maps["logp"][2] = np.nan
    paths = write_comparison(tmp_path / "lrt", GRID, VOXELS, maps, "added: slope\n")
    assert [path.name for path in paths] == [
        "blmm_vox_mask.nii", "blmm_vox_Chi2.nii", "blmm_vox_Chi2lp.nii", "inputs.yml",
    ]  # fmt: skip
    assert nib.load(paths[1]).get_data_dtype() == np.float64
    np.testing.assert_array_equal(values_of(paths[1]).reshape(-1)[VOXELS], maps["chi2"])
    np.testing.assert_array_equal(values_of(paths[2]).reshape(-1)[VOXELS], maps["logp"].astype("float32"))
    assert values_of(paths[0]).sum() == len(VOXELS)


def test_opened_volumes__sheared_affines_keep_their_sform(tmp_path):
    affine = AFFINE.copy()
    affine[0, 1] = 0.7
    with opened_volumes(tmp_path / "a.nii", Grid(SHAPE, affine, (3, 3, 4)), 2, "float32") as volumes:
        volumes.values[1, 7] = 4
        volumes.publish()
    image = nib.load(tmp_path / "a.nii")
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert image.get_fdata().reshape(-1, 2, order="F")[7, 1] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_status__constants_of_the_writer_cover_the_fitted_ones():
    assert [status for status in Status if status.is_fitted] == [0, 1, 2]
