"""Images as other programs store them, from the files to the maps: flipped, as pairs, under other names."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.cli import main, main_fit
from tests.datasets import longitudinal, write_text

SUBJECTS = tuple(f"{number:02d}" for number in range(1, 9))
FORMULA = "1 + time + (1 | subject)"
LAS, LSA, PIR = (np.array(rows) for rows in (
    [[0, -1], [1, 1], [2, 1]], [[0, -1], [2, 1], [1, 1]], [[2, 1], [0, -1], [1, -1]]
))  # fmt: skip


def store_as(path, *orientations):
    """Store an image with its axes in another order and direction, one after the other."""
    image = nib.load(path)
    for orientation in orientations:
        image = image.as_reoriented(orientation)
    # A copy: the file that is written over may be mapped into memory.
    nib.Nifti1Image(np.asarray(image.dataobj).copy(), image.affine).to_filename(path)


def run(root, out, *options):
    assert main([str(root), str(out), "group", "--formula", FORMULA, "--nprocs", "1", *options]) == 0
    maps = sorted((out / "node-group").rglob("*.nii.gz"))
    assert len(maps) > 10
    return {path.name: path.read_bytes() for path in maps}


@pytest.mark.parametrize(("masks", "with_mask"), [("brain", False), ("stem", False), ("stem", True)])
def test_run__flipped_images_and_masks_change_no_bit(tmp_path, capsys, masks, with_mask):
    root = longitudinal(tmp_path / "data", subjects=SUBJECTS, masks=masks)
    explicit, options = tmp_path / "mask.nii.gz", ()
    if with_mask:
        inside = np.ones((4, 3, 2), np.uint8)
        inside[3, 2, :] = 0
        nib.Nifti1Image(inside, np.diag([3.0, 3, 3, 1])).to_filename(explicit)
        options = ("--mask", str(explicit))
    plain = run(root, tmp_path / "plain", *options, "--outputs", "default,residuals")
    assert "another orientation" not in capsys.readouterr().err
    images = sorted(root.rglob("*stat-effect_statmap.nii.gz"))
    for number, path in enumerate(images[1:], start=1):
        store_as(path, *[(), (LAS,), (LSA,), (PIR,)][number % 4])
    own = sorted(root.rglob("*_mask.nii.gz"))
    for number, path in enumerate(own):
        store_as(path, *[(), (PIR,), (LAS,)][number % 3])
    if with_mask:
        store_as(explicit, LAS)
    flipped = run(root, tmp_path / "flipped", *options, "--outputs", "default,residuals")
    assert flipped == plain
    said = capsys.readouterr().err
    n_turned = sum(number % 4 > 0 for number in range(len(images)))
    note = f"{n_turned} of {len(images)} images are stored with another orientation"
    assert said.count(note) == 1
    assert "masks are stored with another orientation" in said
    assert ("mask.nii.gz: the mask is stored with another orientation" in said) is with_mask
    (page,) = (tmp_path / "flipped").glob("node-*.html")
    assert note in page.read_text()


@pytest.mark.parametrize(("masks", "in_pairs"), [("brain", "*.nii.gz"), ("stem", "*_mask.nii.gz")])
def test_run__pairs_change_no_bit(tmp_path, masks, in_pairs):
    root = longitudinal(tmp_path / "data", subjects=SUBJECTS, masks=masks)
    explicit = tmp_path / "explicit_mask.nii.gz"
    nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.diag([3.0, 3, 3, 1])).to_filename(explicit)
    plain = run(root, tmp_path / "plain", "--mask", str(explicit))
    for path in (*root.rglob(in_pairs), explicit):
        image = nib.load(path)
        pair = nib.Nifti1Pair(np.asarray(image.dataobj), image.affine)
        pair.to_filename(path.with_name(path.name.removesuffix(".nii.gz") + ".img"))
        path.unlink()
    assert run(root, tmp_path / "pairs", "--mask", str(explicit.with_name("explicit_mask.hdr"))) == plain


def test_run__a_first_image_stored_otherwise_is_never_mixed_with_what_was_kept(tmp_path):
    root = longitudinal(tmp_path / "data", subjects=SUBJECTS, missing=())
    kept = ("--work-dir", str(tmp_path / "work"), "--mem", "2G")
    run(root, tmp_path / "out", *kept)
    store_as(sorted(root.rglob("*stat-effect_statmap.nii.gz"))[0], LAS)
    again = run(root, tmp_path / "out", *kept)
    assert again == run(root, tmp_path / "fresh")


def test_fit__flipped_images_change_no_bit(tmp_path, capsys):
    rng = np.random.default_rng(6)
    paths = [tmp_path / f"{number}.nii" for number in range(12)]
    for path in paths:
        values = rng.normal(size=(4, 3, 2)).astype(np.float32)
        nib.Nifti1Image(values, np.diag([2.0, 3, 4, 1])).to_filename(path)
    write_text(tmp_path / "Y.txt", "".join(f"{path.name}\n" for path in paths))
    np.savetxt(tmp_path / "X.csv", np.ones((12, 1)), delimiter=",")
    np.savetxt(tmp_path / "f.csv", np.repeat(np.arange(1, 5), 3)[:, None], delimiter=",", fmt="%d")
    np.savetxt(tmp_path / "z.csv", np.ones((12, 1)), delimiter=",")
    config = write_text(
        tmp_path / "blmm_config.yml",
        "Y_files: Y.txt\nX: X.csv\noutdir: out\n"
        "Z:\n  - f1: {name: subject, factor: f.csv, design: z.csv}\n"
        "contrasts:\n  - c1: {name: mean, vector: [1]}\n",
    )
    maps = []
    for _ in range(2):
        assert main_fit([str(config), "--nprocs", "1"]) == 0
        maps.append({path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.nii")})
        shutil.rmtree(tmp_path / "out")
        for path in paths[4:]:
            store_as(path, LSA)
    assert maps[0] == maps[1]
    assert "8 of 12 images are stored with another orientation" in capsys.readouterr().err
