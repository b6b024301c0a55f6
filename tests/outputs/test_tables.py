"""Tables are BIDS tables and hold what went into the fit."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from blmm_bids.outputs.tables import inputs_table, write_tables, write_tsv
from blmm_bids.stats.model import Design
from tests.outputs.synthetic import SUBJECTS, run, unit


@pytest.fixture
def tables(tmp_path):
    paths = write_tables(run(tmp_path / "out", tmp_path), unit(tmp_path), tmp_path / "t", {"task": "n"})
    return {path.name: pd.read_csv(path, sep="\t", na_values="n/a", dtype={"level": str, "subject": str})
            for path in paths if path.suffix == ".tsv"}  # fmt: skip


def test_write_tables__writes_four_tables(tables):
    assert list(tables) == [
        "task-n_design.tsv",
        "task-n_desc-random_design.tsv",
        "task-n_desc-inputs_design.tsv",
        "task-n_desc-contrasts_design.tsv",
    ]


def test_design_table__is_the_design(tables, tmp_path):
    made = unit(tmp_path)
    table = tables["task-n_design.tsv"]
    assert tuple(table.columns) == made.design.fixef_names
    np.testing.assert_array_equal(table.to_numpy(), made.design.X)


def test_random_table__rebuilds_the_random_part(tables, tmp_path):
    table = tables["task-n_desc-random_design.tsv"]
    term = unit(tmp_path).design.terms[0]
    assert len(table) == 24
    wide = table.pivot_table(index="design_row", columns="effect", values="value")[["Intercept", "age"]]
    np.testing.assert_array_equal(wide.to_numpy(), term.effects)
    levels = table.groupby("design_row")["level"].first()
    assert levels.tolist() == [SUBJECTS[ref] for ref in term.refs]


def test_inputs_table__says_what_became_of_each_image(tables):
    table = tables["task-n_desc-inputs_design.tsv"]
    assert len(table) == 14
    assert table["is_used"].tolist() == [True] * 12 + [False] * 2
    assert table["reason"].tolist()[12:] == ["age is missing", "not chosen"]
    assert table["design_row"].tolist()[:12] == list(range(1, 13))
    assert table["n_voxels_missing"].tolist()[:12] == list(range(12))
    assert table["masks"][0] == "bids:source:sub-01/m_mask.nii.gz bids:source:b_mask.nii.gz"
    assert table["image"][13] == "bids:source:sub-06/x_statmap.nii.gz"
    assert table["comment"][0] == "a tab"
    assert table["sex"][3] == "M"


def test_inputs_table__keeps_counts_and_labels_as_they_are(tmp_path):
    write_tables(run(tmp_path / "out", tmp_path), unit(tmp_path), tmp_path / "t", {})
    rows = (tmp_path / "t" / "desc-inputs_design.tsv").read_bytes().decode().split("\n")
    assert "\t01\t1\t1\t20.0\tF\t" in rows[1]
    assert rows[14].endswith("n/a\tn/a\tn/a\tn/a\tn/a")
    assert rows[15] == ""
    assert not any("\r" in row for row in rows)


def test_inputs_table__keeps_a_covariate_that_is_named_as_a_column_of_ours(tmp_path):
    plain = unit(tmp_path)
    made = unit(tmp_path, table=plain.table.assign(reason="mine"))
    table, _ = inputs_table(run(tmp_path / "out", tmp_path), made)
    assert table["covariate.reason"][0] == "mine"
    assert table["reason"][12] == "age is missing"


def test_contrasts_table__has_a_row_a_row_of_weights(tables):
    table = tables["task-n_desc-contrasts_design.tsv"]
    assert table["name"].tolist() == ["age effect", "any", "any"]
    assert table["rank"].tolist() == [1, 2, 2]
    np.testing.assert_array_equal(table[["Intercept", "age", "sex[T.M]"]], [[0, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_write_tables__describes_columns_but_not_those_named_as_entities(tmp_path):
    design = Design(np.ones((12, 3)), ("run", "Description", "time"))
    made = unit(tmp_path, design=design, contrasts=())
    write_tables(run(tmp_path / "out", tmp_path), made, tmp_path / "t", {})
    sidecar = json.loads((tmp_path / "t" / "design.json").read_text())
    assert sidecar["time"] == {"Description": "Regressor 'time'."}
    assert "run" not in sidecar
    assert isinstance(sidecar["Description"], str)
    assert (tmp_path / "t" / "desc-contrasts_design.tsv").read_text().startswith("name\ttest")


def test_write_tables__writes_nothing_random_for_a_linear_model(tmp_path):
    made = unit(tmp_path, design=Design(np.ones((12, 1)), ("Intercept",)), contrasts=())
    names = {path.name for path in write_tables(run(tmp_path, tmp_path), made, tmp_path / "t", {})}
    assert "desc-random_design.tsv" not in names


def test_write_tsv__keeps_quotes_unicode_and_full_precision(tmp_path):
    table = pd.DataFrame({"a\nb": ['say "µ"', None], "x": [1 / 3, np.nan]})
    text = write_tsv(tmp_path / "a.tsv", table).read_bytes().decode("utf-8")
    assert text == f'a b\tx\nsay "µ"\t{1 / 3!r}\nn/a\tn/a\n'
