"""Images in other formats, as pairs, or under other names: read, or counted with the reason."""

from __future__ import annotations

import pytest

from blmm_bids.bids.filters import select_images
from blmm_bids.bids.formats import image_format
from blmm_bids.bids.layout import walk_dataset
from blmm_bids.bids.selection import selection_from_input
from blmm_bids.errors import MissingInputError, NoMatchError
from tests.datasets import write_text

STEM = "sub-{:02d}_stat-effect_statmap"


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("sub-01_stat-effect_statmap.nii.gz", ".nii.gz"),
        ("sub-01_stat-effect_statmap.img", ".img"),
        ("sub-01_stat-effect_statmap.hdr", None),
        ("sub-01_hemi-L_thickness.shape.gii", ".shape.gii"),
        ("lh.pial.gii", ".gii"),
        ("sub-01_stat-effect_statmap.dscalar.nii", ".dscalar.nii"),
        ("sub-01_bold.dtseries.nii", ".dtseries.nii"),
        ("my.scan.nii", ".nii"),
        ("brain.mgz", ".mgz"),
        ("stats+tlrc.BRIK.gz", ".BRIK.gz"),
        ("stats+tlrc.HEAD", None),
        ("sub-01_statmap.json", None),
        ("README.nii.txt", None),
    ],
)
def test_image_format__goes_by_the_ending(name, ending):
    assert image_format(name) == ending


def tree(root, extensions, n_subjects=3):
    for number in range(1, n_subjects + 1):
        for extension in extensions:
            write_text(root / f"sub-{number:02d}" / (STEM.format(number) + extension), "")
    return root


def select(root, **block):
    listing = walk_dataset(root)
    images, warnings = select_images(listing.files, selection_from_input(block))
    return [image.name for image in images], [*listing.warnings, *warnings]


@pytest.mark.parametrize(
    ("extensions", "block", "read"),
    [
        ((".hdr", ".img"), {}, ".img"),
        ((".hdr.gz", ".img.gz"), {}, ".img.gz"),
        ((".hdr", ".img", ".json"), {"extension": ".hdr"}, ".img"),
        ((".hdr", ".img", ".nii.gz"), {"extension": "img"}, ".img"),
    ],
)
def test_select_images__counts_a_pair_once(tmp_path, extensions, block, read):
    names, warnings = select(tree(tmp_path, extensions), **block)
    assert names == [STEM.format(number) + read for number in (1, 2, 3)]
    assert warnings == []


@pytest.mark.parametrize(("lost", "kept"), [(".hdr", ".img"), (".img", ".hdr")])
def test_select_images__names_halves_of_pairs(tmp_path, lost, kept):
    root = tree(tmp_path, (".hdr", ".img"))
    (root / "sub-02" / (STEM.format(2) + lost)).unlink()
    with pytest.raises(MissingInputError, match=r"1 image\(s\) are half of a \.hdr/\.img pair") as caught:
        select(root)
    assert f"{STEM.format(2)}{kept} (no {STEM.format(2)}{lost})" in str(caught.value)
    names, _ = select(root, subject=["01", "03"])
    assert len(names) == 2
    # Where no pair is whole, too.
    for number in (1, 3):
        (root / f"sub-{number:02d}" / (STEM.format(number) + lost)).unlink()
    with pytest.raises(MissingInputError, match=r"3 image\(s\) are half"):
        select(root)


@pytest.mark.parametrize("single", [".nii", ".nii.gz"])
def test_select_images__takes_the_nifti_file_beside_a_pair_and_says_so(tmp_path, single):
    names, warnings = select(tree(tmp_path, (".hdr", ".img", single)))
    assert names == [STEM.format(number) + single for number in (1, 2, 3)]
    assert len(warnings) == 1
    assert warnings[0].startswith("3 .hdr/.img pair(s) lie beside a .nii or .nii.gz of the same name")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ((".dscalar.nii",), ["3 file(s) that match are of formats that are not read, .dscalar.nii (3)"]),
        (
            (".func.gii", ".mgz"),
            ["6 file(s) that match are of formats that are not read, .func.gii (3), .mgz (3)"],
        ),
        (("+tlrc.BRIK", "+tlrc.HEAD"), ["3 image file(s) of ", "formats that are not read, .BRIK (3)"]),
        ((".json", ".tsv", ".png"), []),
    ],
)
def test_select_images__counts_what_matches_in_other_formats(tmp_path, others, said):
    names, warnings = select(tree(tmp_path, (".nii.gz", *others)))
    assert len(names) == 3
    assert len(warnings) == bool(said)
    assert all(text in warnings[0] for text in said)
    if said:
        assert "convert them" in warnings[0]
    for path in tmp_path.rglob("*.nii.gz"):
        path.unlink()
    with pytest.raises(
        NoMatchError, match=r"No image with the extension \.nii\.gz, \.nii, \.img or \.img\.gz"
    ) as caught:
        select(tmp_path)
    assert ("convert them" in str(caught.value)) is bool(said)


@pytest.mark.parametrize(
    ("names", "n_unused", "why"),
    [
        (["con_0001.nii", "con_0002.nii"], 6, "have names that do not follow BIDS"),
        (["con_0001.img", "con_0001.hdr"], 3, "have names that do not follow BIDS"),
        (["stats.subject.nii.gz"], 3, "have names that do not follow BIDS"),
        (["cope1.nii.gz"], 3, "have names without a BIDS entity"),
        (["mask.nii"], 3, "have names without a BIDS entity"),
    ],
)
def test_select_images__counts_names_that_are_not_bids(tmp_path, names, n_unused, why):
    root = tree(tmp_path, (".nii.gz",))
    for number in (1, 2, 3):
        for name in names:
            write_text(root / f"sub-{number:02d}" / name, "")
    images, warnings = select(root)
    assert len(images) == 3
    (said,) = warnings
    assert said.startswith(f"{n_unused} image file(s)")
    assert why in said
    assert "list them in a table: --images TABLE.tsv" in said
    assert str(root / "sub-01" / names[0]) in said


def test_select_images__a_name_that_is_no_entity_may_still_be_asked_for(tmp_path):
    for number in (1, 2):
        write_text(tmp_path / f"sub-0{number}" / "cope1.nii.gz", "")
    names, warnings = select(tmp_path, suffix="cope1")
    assert names == ["cope1.nii.gz"] * 2
    assert warnings == []


def test_select_images__spm_folders_are_no_contradiction(tmp_path):
    for number in (1, 2):
        for name in ("con_0001.nii", "mask.nii"):
            write_text(tmp_path / f"sub-0{number}" / name, "")
    with pytest.raises(NoMatchError) as caught:
        select(tmp_path)
    assert "there is .nii" not in str(caught.value)
    assert "2 image file(s) have names without a BIDS entity" in str(caught.value)
    assert walk_dataset(tmp_path).warnings[0].startswith("2 image file(s)")
