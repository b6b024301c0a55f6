"""Sidecars say what a map is, and never what pybids takes for an entity."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from blmm_bids.outputs.registry import OutputOptions
from blmm_bids.outputs.sidecars import MAX_LISTED_SOURCES, source_uris
from blmm_bids.outputs.write import write_unit
from blmm_bids.stats.model import Design, FitOptions, Status
from tests.outputs.synthetic import blocks, design, run, unit

STEM = "task-nback_run-1_space-MNI152NLin2009cAsym_contrast-faces"


@pytest.fixture
def written(tmp_path):
    made = unit(tmp_path / "in", output_options=OutputOptions("full"))
    return write_unit(run(tmp_path / "out", tmp_path / "in"), made, blocks(made), tmp_path / "work")


def read(result, name):
    return json.loads((result.directory / f"{STEM}{name}.json").read_text(encoding="utf-8"))


def entity_names():
    from bids.layout.models import Config

    configs = [Config.load(name) for name in ("bids", "derivatives")]
    return {name.casefold() for config in configs for name in config.entities} | {"contrast", "param", "stat"}


def test_sidecars__use_no_entity_as_a_key(written):
    entities = entity_names()
    assert {"task", "run", "suffix", "label"} <= entities
    sidecars = [path for path in written.files if path.suffix == ".json"]
    for path in sidecars:
        keys = {key.casefold() for key in json.loads(path.read_text(encoding="utf-8"))}
        assert not keys & entities, path.name


def test_sidecars__are_beside_every_map_and_table(written):
    names = {path.name for path in written.files}
    for name in names:
        if not name.endswith(".json"):
            assert name.split(".")[0] + ".json" in names


def test_sidecars__hold_what_all_maps_share(written, tmp_path):
    content = read(written, "_stat-sigma2_statmap")
    assert content["Statistic"] == "sigma2"
    assert content["Method"] == "REML"
    assert content["Units"] == "squared units of the input images"
    assert content["ModelFormula"] == "y ~ 1 + age + sex + (1 + age | subject)"
    assert len(content["Sources"]) == 12
    assert content["Sources"][0].startswith("bids:source:sub-01/ses-1/func/sub-01_ses-1")
    assert content["SoftwareVersion"]
    for path in written.files:
        if path.suffix == ".json":
            assert str(tmp_path) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("_param-sexTM_stat-beta_statmap", {"RegressorName": "sex[T.M]"}),
        ("_param-Intercept+age_stat-covbeta_statmap", {"RegressorName": ["Intercept", "age"]}),
        (
            "_param-subject+Intercept+age_stat-D_statmap",
            {"RandomEffect": {"Factor": "subject", "Effects": ["Intercept", "age"]}},
        ),
        (
            "AgeEffect_stat-logp_statmap",
            {
                "ContrastName": "age effect",
                "ConditionList": ["age"],
                "Weights": [1.0],
                "Test": "t",
                "Alternative": "greater",
            },
        ),
        ("AgeEffect_stat-logp2_statmap", {"Alternative": "two-sided"}),
        ("AgeEffect_stat-z_statmap", {"MapType": "Z map"}),
        ("Any_stat-F_statmap", {"NumeratorDegreesOfFreedom": 2, "Weights": [[1.0, 0.0], [0.0, 1.0]]}),
    ],
)
def test_sidecars__name_exactly_what_the_map_is_of(written, name, wanted):
    content = read(written, name)
    assert {key: content[key] for key in wanted} == wanted


def test_sidecars__say_that_d_is_relative(written):
    assert (
        "relative to the residual variance"
        in read(written, "_param-subject+age+age_stat-D_statmap")["Description"]
    )


def test_sidecars__give_no_alternative_to_f(written):
    assert "Alternative" not in read(written, "Any_stat-logp_statmap")
    assert "Alternative" not in read(written, "AgeEffect_stat-t_statmap")


def test_sidecars__explain_every_status(written):
    levels = read(written, "_stat-status_statmap")["Levels"]
    assert levels == {str(int(status)): status.sentence for status in Status}


@pytest.mark.parametrize(
    ("terms", "choice", "wanted"),
    [(True, "observed", "lmerTest"), (True, "ml-expected", "BLMM"), (False, "expected", "residual")],
)
def test_sidecars__say_where_the_df_come_from(tmp_path, terms, choice, wanted):
    made = unit(
        tmp_path, design=design(terms=terms), fit_options=FitOptions(reml=False, satterthwaite=choice)
    )
    result = write_unit(run(tmp_path / "out", tmp_path), made, blocks(made), tmp_path / "work")
    content = read(result, "AgeEffect_stat-dof_statmap")
    assert wanted in content["DegreesOfFreedomMethod"]
    assert content["Method"] == "ML"


def test_source_uris__point_to_the_table_where_there_are_many(tmp_path):
    small = unit(tmp_path)
    many = MAX_LISTED_SOURCES + 1
    made = replace(small, rows=(0,) * many, n_missing=None, design=Design(np.ones((many, 1)), ("Intercept",)))
    table = tmp_path / "out" / "node-a" / "desc-inputs_design.tsv"
    found = source_uris(run(tmp_path / "out", tmp_path), made, table)
    assert found == ["bids::node-a/desc-inputs_design.tsv"]
