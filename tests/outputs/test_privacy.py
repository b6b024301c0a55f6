"""Paths in what may be shared are names of places, or their last part."""

from __future__ import annotations

from pathlib import Path

import pytest

from blmm_bids.outputs.privacy import Places

PLACES = Places(
    {
        "BIDS_DIR": Path("/home/jdoe/my study"),
        "OUTPUT_DIR": Path("/home/jdoe/my study/derivatives/out"),
        "WORK_DIR": Path("/scratch/w"),
        "ROOT": Path("/"),
    }
)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("maps: /home/jdoe/my study/derivatives/out/node-a", "maps: OUTPUT_DIR/node-a"),
        ("'/home/jdoe/my study/x.nii.gz' is bad", "'BIDS_DIR/x.nii.gz' is bad"),
        ("/scratch/w: full; /scratch/work: not", "WORK_DIR: full; …/work: not"),
        ("mask /data/lab/jdoe/m.nii (empty)", "mask …/m.nii (empty)"),
        ("(1 | a/b) + x / y, 3/4 done, n/a, sub-01/func", "(1 | a/b) + x / y, 3/4 done, n/a, sub-01/func"),
        ("https://example.org/a/b", "https://example.org/a/b"),
    ],
)
def test_hide__knows_places(text, hidden):
    assert PLACES.hide(text) == hidden


@pytest.mark.parametrize(
    ("argument", "hidden"),
    [
        ("/home/jdoe/my study/sub-01", "BIDS_DIR/sub-01"),
        ("/home/jdoe/my study/derivatives/out", "OUTPUT_DIR"),
        ("--mask=/home/jdoe other/m.nii", "--mask=…/m.nii"),
        ("1 + age + (1 | a/b)", "1 + age + (1 | a/b)"),
        ("relative/path", "relative/path"),
    ],
)
def test_hide_arguments__one_by_one(argument, hidden):
    assert PLACES.hide_arguments([argument]) == (hidden,)


def test_hide_arguments__of_other_paths_the_name_stays():
    assert Places({}).hide_arguments(["-m", "/home/j doe/m.json"]) == ("-m", "…/m.json")
