"""What a 0 is in each kind of map."""

from __future__ import annotations

from pathlib import Path

import pytest

from blmm_bids.bids.zeros import chosen_zeros, zeros_of


@pytest.mark.parametrize(
    ("name", "zeros", "is_sure"),
    [
        ("sub-01_space-MNI_label-GM_probseg.nii.gz", "data", True),
        ("sub-01_space-MNI_label-L_desc-lesion_mask.nii.gz", "data", True),
        ("sub-01_space-MNI_dseg.nii.gz", "data", True),
        ("sub-01_space-MNI_thickness.nii.gz", "data", True),
        ("sub-01_sulc.nii.gz", "data", True),
        ("sub-01_desc-lesion_counts.nii.gz", "data", True),
        ("sub-01_space-MNI_stat-count_statmap.nii.gz", "data", True),
        ("sub-01_param-streamlineCount_dwimap.nii.gz", "data", True),
        ("sub-01_model-noddi_param-isovf_dwimap.nii.gz", "data", True),
        ("sub-01_stat-thickness_morph.nii.gz", "data", True),
        ("sub-01_label-GM_desc-modulated_vbm.nii.gz", "data", True),
        ("sub-01_contrast-counting_stat-effect_statmap.nii.gz", "missing", True),
        ("sub-01_task-rest_stat-alff_boldmap.nii.gz", "missing", True),
        ("sub-01_model-dti_param-fa_dwimap.nii.gz", "missing", True),
        ("sub-01_desc-lesion_T1w.nii.gz", "missing", True),
        ("sub-01_label-GM_cbf.nii.gz", "missing", True),
        ("sub-01_space-MNI_something.nii.gz", "missing", False),
        ("smwp1sub-01_T1w.nii", "data", True),
        ("s6mwc1subject.nii", "data", True),
        ("con_0001.nii", "missing", True),
        ("cope1.nii.gz", "missing", True),
        ("my map.nii", "missing", False),
    ],
)
def test_zeros_of__goes_by_the_kind_of_map(name, zeros, is_sure):
    rule = zeros_of([Path(name), Path("elsewhere", name)])
    assert (rule.zeros, rule.is_sure) == (zeros, is_sure)
    other = "missing" if zeros == "data" else "data"
    assert f"--zeros {other} for otherwise" in rule.text
    assert chosen_zeros([Path(name)], "auto", other) == zeros_of([Path(name)])


def test_zeros_of__kinds_that_disagree_are_missing_with_a_word():
    rule = zeros_of([Path("sub-01_label-GM_probseg.nii.gz"), Path("sub-01_stat-effect_statmap.nii.gz")])
    assert (rule.zeros, rule.is_sure) == ("missing", False)
    assert "several kinds: probseg maps" in rule.text
    assert "statmap maps" in rule.text
    same = zeros_of([Path("sub-01_label-GM_probseg.nii.gz"), Path("sub-01_thickness.nii.gz")])
    assert (same.zeros, same.is_sure) == ("data", True)
    known_and_not = zeros_of([Path("sub-01_probseg.nii.gz"), Path("sub-01_thing.nii.gz")])
    assert (known_and_not.zeros, known_and_not.is_sure) == ("missing", False)


@pytest.mark.parametrize(
    ("option", "spec", "zeros", "word"),
    [
        (None, None, "data", "probseg maps"),
        ("missing", None, "missing", "--zeros says so"),
        ("missing", "data", "missing", "--zeros says so"),
        (None, "missing", "missing", "Zeros in the model spec says so"),
        (None, "auto", "data", "probseg maps"),
        ("auto", "missing", "data", "probseg maps"),
    ],
)
def test_chosen_zeros__the_command_line_wins(option, spec, zeros, word):
    rule = chosen_zeros([Path("sub-01_label-GM_probseg.nii.gz")], option, spec)
    assert rule.zeros == zeros
    assert word in rule.text
