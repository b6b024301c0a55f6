from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from blmm_bids.errors import ModelSpecError
from blmm_bids.stats.lrt import ComparedModel, Mixture, compare_models, lrt_log_p, lrt_maps
from blmm_bids.stats.model import Design, RandomTerm

N_SUBJECTS, N_VISITS = 6, 4
N_OBS = N_SUBJECTS * N_VISITS
SUBJECT = np.repeat(np.arange(N_SUBJECTS), N_VISITS)
SITE = SUBJECT % 3
AGE = np.random.default_rng(1).normal(60, 9, N_OBS)
SEX = (SUBJECT % 2).astype(float)
ONE = np.ones(N_OBS)
COLUMNS = {"1": ONE, "age": AGE, "age2": AGE**2, "sex": SEX, "shifted": AGE - 60, "double": 2 * AGE}
REFS = {"subject": SUBJECT, "site": SITE, "shuffled": (SUBJECT * 5 + 2) % N_SUBJECTS}


def term(effects, group):
    names = tuple("Intercept" if name == "1" else name for name in effects.split("+"))
    matrix = np.column_stack([COLUMNS[name] for name in effects.split("+")])
    refs = REFS[group].astype(np.int64)
    return RandomTerm(group, tuple(f"level{i}" for i in range(refs.max() + 1)), refs, matrix, names)


def model(fixed, *bars, reml=True, name="model"):
    """``model("1+age", "1|subject")``."""
    X = np.column_stack([COLUMNS[column] for column in fixed.split("+")])
    return ComparedModel(
        name, Design(X, tuple(fixed.split("+")), tuple(term(*bar.split("|")) for bar in bars)), reml
    )


NESTED = [
    # smaller, larger, weights, dfs
    (["1+age"], ["1+age", "1|subject"], (0.5, 0.5), (0, 1)),
    (["1+age", "1|subject"], ["1+age", "1+age|subject"], (0.5, 0.5), (1, 2)),
    (["1+age", "1+age|subject"], ["1+age", "1+age+age2|subject"], (0.5, 0.5), (2, 3)),
    (["1+age", "1|subject"], ["1+age", "1|subject", "1|site"], (0.5, 0.5), (0, 1)),
    (["1+age", "1|subject"], ["1+age", "1|subject", "age|subject"], (0.5, 0.5), (0, 1)),
    (["1", "1|site", "1|subject"], ["1", "1+age|subject", "1|site"], (0.5, 0.5), (1, 2)),
    # The same model in other words: permuted columns, renamed levels, another basis of the effects.
    (["age+1"], ["1+age", "1|subject"], (0.5, 0.5), (0, 1)),
    (["1", "1|subject"], ["1", "1+age|shuffled"], (0.5, 0.5), (1, 2)),
    (["1", "1+shifted|subject"], ["1", "1+age+age2|subject"], (0.5, 0.5), (2, 3)),
]


@pytest.mark.parametrize(("few", "many", "weights", "dfs"), NESTED)
@pytest.mark.parametrize("reml", [True, False])
def test_compare_models__one_more_variance(few, many, weights, dfs, reml):
    smaller, larger = model(*few, reml=reml), model(*many, reml=reml)
    mixture = compare_models(smaller, larger)
    assert (mixture.weights, mixture.dfs, mixture.swapped) == (weights, dfs, False)
    assert "variance" in mixture.added
    other_way = compare_models(larger, smaller)
    assert (other_way.weights, other_way.dfs, other_way.swapped) == (weights, dfs, True)


@pytest.mark.parametrize(
    ("few", "many", "df", "added"),
    [
        ("1", "1+age", 1, "fixed effects age"),
        ("1", "1+age+sex", 2, "fixed effects age, sex"),
        ("1+shifted", "1+age+sex", 1, "1 fixed effects"),
    ],
)
@pytest.mark.parametrize("bars", [(), ("1|subject",), ("1+age|subject", "1|site")])
def test_compare_models__fixed_effects_by_ml(few, many, df, added, bars):
    smaller, larger = model(few, *bars, reml=False), model(many, *bars, reml=False)
    mixture = compare_models(smaller, larger)
    assert (mixture.weights, mixture.dfs, mixture.added) == ((1.0,), (df,), added)
    assert compare_models(larger, smaller).swapped


REFUSED = [
    (model("1", reml=False), model("1", "1|subject"), "'b' was fitted by REML and 'a' by ML"),
    (model("1", "1|subject"), model("1+age", "1|subject"), "fit both by ML"),
    (model("1+age"), model("1+sex", "1|subject"), "the fixed effects of 'a' are not all among those of 'b'"),
    (
        model("1", reml=False),
        model("1+age", "1|subject", reml=False),
        "differ in fixed and in random effects",
    ),
    (model("1", "1|subject"), model("1", "1|subject"), "there is nothing to test"),
    (model("1"), model("1", "1+age|subject"), "(1 + age | subject) adds 2 variances at once to none"),
    (model("1", "1|site"), model("1", "1+age|subject"), "(1 | site) is not part of (1 + age | subject)"),
    (
        model("1", "1|subject", "age|subject"),
        model("1", "1+age|subject"),
        "differ in more than one step: (1 | subject), (0 + age | subject) against (1 + age | subject)",
    ),
    (
        model("1", "1|subject"),
        model("1", "1|subject", "1|site", "age|subject"),
        "add one effect or one factor per comparison",
    ),
    (
        model("1+double"),
        model("1+age", "1|subject"),
        "whose criterion depends on how X is written",
    ),
]


@pytest.mark.parametrize(("first", "second", "message"), REFUSED)
def test_compare_models__refuses_with_the_reason(first, second, message):
    first = ComparedModel("a", first.design, first.reml)
    second = ComparedModel("b", second.design, second.reml)
    with pytest.raises(ModelSpecError) as caught:
        compare_models(first, second)
    assert message in str(caught.value)
    assert str(caught.value).startswith("cannot compare 'a' with 'b': ")
    with pytest.raises(ModelSpecError):
        compare_models(second, first)


def test_compare_models__refuses_other_image_counts():
    design = Design(np.ones((5, 1)), ("1",))
    with pytest.raises(ModelSpecError, match="fitted to 5 and 24 images"):
        compare_models(ComparedModel("a", design, True), model("1"))


def half_normal_log_p(chisq):
    """By hand, q = 0: half of P(chi2_1 > x) is the normal's upper tail at sqrt(x)."""
    return special.log_ndtr(-np.sqrt(chisq))


def one_two_log_p(chisq):
    """By hand, q = 1: (P(chi2_1 > x) + exp(-x/2)) / 2 with P(chi2_1 > x) = 2 Phi(-sqrt x)."""
    return np.logaddexp(special.log_ndtr(-np.sqrt(chisq)), -chisq / 2 - np.log(2))


def plain_two_log_p(chisq):
    """By hand: P(chi2_2 > x) = exp(-x/2)."""
    return -chisq / 2


@pytest.mark.parametrize(
    ("mixture", "by_hand"),
    [
        (Mixture((0.5, 0.5), (0, 1), ""), half_normal_log_p),
        (Mixture((0.5, 0.5), (1, 2), ""), one_two_log_p),
        (Mixture((1.0,), (2,), ""), plain_two_log_p),
    ],
)
def test_lrt_log_p__equals_the_formula_by_hand_far_out(mixture, by_hand):
    chisq = np.array([1e-6, 0.5, 3.84, 30, 240, 1000, 5000, 1e5, 1e8])
    assert by_hand(chisq[4]) < np.log(1e-50)
    np.testing.assert_allclose(lrt_log_p(chisq, mixture), by_hand(chisq), rtol=1e-11)


def test_lrt_log_p__equals_scipy_for_many_effects():
    chisq = np.linspace(0.1, 60, 40)
    expected = np.log(0.5 * stats.chi2.sf(chisq, 3) + 0.5 * stats.chi2.sf(chisq, 4))
    np.testing.assert_allclose(lrt_log_p(chisq, Mixture((0.5, 0.5), (3, 4), "")), expected, rtol=1e-11)


@pytest.mark.parametrize("dfs", [(0, 1), (1, 2), (4, 5)])
def test_lrt_log_p__limits(dfs):
    log_p = lrt_log_p([0.0, np.inf, np.nan], Mixture((0.5, 0.5), dfs, ""))
    np.testing.assert_array_equal(log_p, [0.0, -np.inf, np.nan])


def test_lrt_maps__never_below_zero_and_nan_where_either_is():
    mixture = Mixture((0.5, 0.5), (0, 1), "")
    maps = lrt_maps([-10.0, -10.0, np.nan, -10.0], [-8.0, -10.1, -5.0, np.nan], mixture)
    np.testing.assert_allclose(maps["chi2"], [4.0, 0.0, np.nan, np.nan])
    expected = [-np.log10(0.5 * stats.chi2.sf(4.0, 1)), 0.0, np.nan, np.nan]
    np.testing.assert_allclose(maps["logp"], expected, rtol=1e-12)
    assert not np.signbit(maps["logp"][1])


def test_lrt_maps__exchanges_what_came_the_other_way_round():
    first, second = np.array([-5.0, -7.0]), np.array([-9.0, -7.5])
    mixture = compare_models(model("1", "1|subject"), model("1"))
    np.testing.assert_array_equal(lrt_maps(first, second, mixture)["chi2"], [8.0, 1.0])


def test_mixture__formula_reads_as_in_a_paper():
    assert Mixture((0.5, 0.5), (1, 2), "").formula == "0.5 chi2_1 + 0.5 chi2_2"
    assert Mixture((1.0,), (3,), "").formula == "chi2_3"
