"""File names are those of the contract."""

from __future__ import annotations

import numpy as np
import pytest

from blmm_bids.errors import ModelSpecError
from blmm_bids.outputs.naming import (
    comparison_maps,
    contrast_names,
    design_filename,
    list_maps,
    stem_entities,
)
from blmm_bids.outputs.registry import OutputOptions
from blmm_bids.stats.model import Contrast, RandomTerm
from tests.outputs.synthetic import contrasts, design

FULL = OutputOptions("full")


def names_of(stem, model, tests=(), options=FULL):
    maps = list_maps(stem, model.fixef_names, model.terms, tests, options)
    return [spec.filename.removesuffix(".nii.gz") for spec in maps]


@pytest.mark.parametrize(
    ("constant", "group", "wanted"),
    [
        (
            {"subject": "01", "ses": "1", "task": "n", "stat": "effect", "desc": "x"},
            {},
            {"task": "n"},
        ),
        ({"task": "n", "contrast": "faces"}, {}, {"task": "n"}),
        ({"task": "n"}, {"contrast": "faces"}, {"task": "n", "contrast": "faces"}),
        ({"session": "1"}, {"session": "1"}, {"session": "1"}),
        ({"resolution": "2"}, {}, {"res": "2"}),
        ({}, {"stat": "effect", "desc": "smooth"}, {"desc": "effectSmooth"}),
    ],
)
def test_stem_entities__keeps_what_names_the_fit(constant, group, wanted):
    assert stem_entities(constant, group) == wanted


def test_list_maps__names_every_map_as_the_contract_does():
    found = names_of({"task": "nback", "space": "MNI", "contrast": "faces"}, design(), contrasts())
    stem = "task-nback_space-MNI_contrast-"
    wanted = [
        "faces_desc-analysis_mask",
        *[f"faces_stat-{name}_statmap" for name in ("n", "status", "edf", "sigma2", "resms", "mean")],
        *[f"faces_stat-{name}_statmap" for name in ("logLikelihood", "iterations")],
        *[f"faces_param-{name}_stat-beta_statmap" for name in ("Intercept", "age", "sexTM")],
        *[
            f"faces_param-subject+{pair}_stat-{name}_statmap"
            for name in ("D", "varcorr")
            for pair in ("Intercept+Intercept", "Intercept+age", "age+age")
        ],
        *[
            f"faces_param-{pair}_stat-covbeta_statmap"
            for pair in (
                "Intercept+Intercept",
                "Intercept+age",
                "Intercept+sexTM",
                "age+age",
                "age+sexTM",
                "sexTM+sexTM",
            )
        ],
        *[
            f"facesAgeEffect_stat-{name}_statmap"
            for name in ("effect", "variance", "se", "t", "dof", "z", "logp", "p", "logp2", "fdr", "fdrBY")
        ],
        *[
            f"facesAny_stat-{name}_statmap"
            for name in ("F", "dof", "z", "logp", "p", "partialR2", "fdr", "fdrBY")
        ],
    ]
    assert found == [stem + name for name in wanted]


def test_list_maps__varcorr_has_the_units_of_deviations_and_of_correlations():
    model = design()
    maps = list_maps({}, model.fixef_names, model.terms, (), FULL)
    effects = {tuple(s.names["RandomEffect"]["Effects"]): s for s in maps if s.quantity.name == "varcorr"}
    units = {pair: spec.quantity.units for pair, spec in effects.items()}
    assert units == {
        ("Intercept", "Intercept"): "units of the input images",
        ("Intercept", "age"): "dimensionless",
        ("age", "age"): "units of the input images per unit of the regressor",
    }


def test_list_maps__leaves_the_contrast_out_without_an_input_contrast():
    found = names_of({"task": "n"}, design(), [Contrast("age", np.array([[0.0, 1, 0]]), "t")])
    assert "task-n_stat-sigma2_statmap" in found
    assert "task-n_desc-analysis_mask" in found
    assert "task-n_contrast-age_stat-t_statmap" in found


@pytest.mark.parametrize(
    ("slopes", "terms", "has_icc"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_list_maps__gives_icc_to_intercept_models_only(slopes, terms, has_icc):
    found = names_of({}, design(slopes=slopes, terms=terms))
    assert ("param-subject_stat-icc_statmap" in found) == has_icc


def test_list_maps__points_at_the_right_column_of_the_results():
    model = design()
    maps = list_maps({}, model.fixef_names, model.terms, contrasts(), FULL)
    places = {spec.filename.removesuffix("_statmap.nii.gz"): (spec.key, spec.column) for spec in maps}
    assert places["param-age_stat-beta"] == ("beta", 1)
    assert places["param-age+sexTM_stat-covbeta"] == ("vcov", 5)
    assert places["param-subject+age+age_stat-D"] == ("D", 2)
    assert places["contrast-any_stat-F"] == ("c1_F", None)
    assert places["stat-n"] == ("n", None)


@pytest.mark.parametrize(
    ("fixef_names", "tests", "named"),
    [
        (("sex[T.M]", "sexT.M"), [], ("'sex[T.M]'", "'sexT.M'")),
        (("a", "A"), [], ("'a'", "'A'")),
        (
            ("a", "b"),
            [Contrast("big-a", np.eye(2)[:1], "t"), Contrast("big a", np.eye(2), "F")],
            ("'big-a'", "'big a'"),
        ),
    ],
)
def test_list_maps__refuses_names_that_collide_and_says_which(fixef_names, tests, named):
    with pytest.raises(ModelSpecError) as error:
        list_maps({}, fixef_names, (), tests, FULL)
    assert all(name in str(error.value) for name in named)


def test_list_maps__tells_terms_of_one_group_apart():
    parts = [
        RandomTerm("site:family", ("a", "b"), np.array([0, 1]), np.ones((2, 1)), (name,))
        for name in ("Intercept", "time")
    ]
    found = list_maps({}, ("Intercept",), parts, (), OutputOptions())
    labels = [spec.entities["param"] for spec in found if spec.quantity.name == "D"]
    assert labels == ["siteFamily+Intercept+Intercept", "siteFamily+time+time"]


def test_comparison_maps__are_named_large_against_small():
    found = [spec.filename for spec in comparison_maps({"contrast": "faces"}, "with slopes", "base")]
    assert found == [
        "contrast-faces_desc-withSlopesVsBase_stat-chi2_statmap.nii.gz",
        "contrast-faces_desc-withSlopesVsBase_stat-logp_statmap.nii.gz",
    ]


@pytest.mark.parametrize(
    ("stem", "desc", "wanted"),
    [
        ({"task": "n", "contrast": "faces"}, "", "task-n_contrast-faces_design.tsv"),
        ({"task": "n"}, "random", "task-n_desc-random_design.tsv"),
        ({"desc": "smooth"}, "inputs", "desc-smoothInputs_design.tsv"),
    ],
)
def test_design_filename__is_the_contracts(stem, desc, wanted):
    assert design_filename(stem, desc) == wanted


def test_contrast_names__lists_columns_with_a_weight_and_the_rank():
    names = ("Intercept", "age", "sex[T.M]")
    doubled = Contrast("twice", np.array([[0.0, 1, -1], [0, 2, -2]]), "F")
    assert contrast_names(names, doubled) == {
        "ContrastName": "twice",
        "ConditionList": ["age", "sex[T.M]"],
        "Weights": [[1, -1], [2, -2]],
        "Test": "F",
        "NumeratorDegreesOfFreedom": 1,
    }
    single = contrast_names(names, contrasts()[0])
    assert (single["ConditionList"], single["Weights"], single["Test"]) == (["age"], [1], "t")
