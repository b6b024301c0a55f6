"""The sixteen published fits of lme4, lmerTest and nlme, by ML and REML, against R's own numbers."""

from __future__ import annotations

import os
import re
import resource

import numpy as np
import pandas as pd
import pytest

from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.inference import f_maps, t_maps
from blmm_bids.stats.model import FitOptions, Status
from blmm_bids.stats.plan import make_plan
from tests.models import CLASSIC, classic_design, read_table

# The objective first: every other number is only as good as the optimum.
LOGLIK_TOLERANCE = 1e-6
BETA_IN_SE = 1e-3
RELATIVE = 2e-3
D_ABSOLUTE = 1e-4
# lmerTest differentiates numerically.
DF_RELATIVE = 1e-2
# R's summary of a singular fit takes its df from a Hessian at the edge, by differences.
SMALL = [name for name in CLASSIC if name != "insteval_crossed"]
ANOVA = [name for name in SMALL if CLASSIC[name].fixed != "1"]


@pytest.fixture(scope="module")
def classic(shared_data):
    return shared_data / "classic"


def criterion(reml):
    return "REML" if reml else "ML"


def reference(classic, name, reml):
    """R's row of the summary, fixed effects, and variances by (group, effect, effect)."""
    summary = pd.read_csv(classic / "summary.csv")
    row = summary[(summary["id"] == name) & (summary["REML"] == reml)].iloc[0]
    stem = f"{name}_{criterion(reml)}"
    fixef = pd.read_csv(classic / f"{stem}_fixef.csv").set_index("term")
    varcorr = pd.read_csv(classic / f"{stem}_varcorr.csv")
    variances = {}
    for each in varcorr.itertuples():
        second = each.var1 if pd.isna(each.var2) else each.var2
        group = re.sub(r"\.\d+$", "", each.grp)
        variances[group, _effect(each.var1), _effect(second)] = each.vcov
    return row, fixef, variances


def _effect(name):
    return "Intercept" if name == "(Intercept)" else name


def check_fit(fit, design, row, fixef, variances):
    """One voxel's fit against R's, objective first."""
    gap = fit.loglik[0] - row["logLik"]
    assert gap >= -LOGLIK_TOLERANCE * (1 + abs(row["logLik"])), f"log-likelihood is {gap:.2e} from lme4's"
    assert abs(gap) <= LOGLIK_TOLERANCE * (1 + abs(row["logLik"])), f"lme4 stopped {gap:.2e} short of us"
    assert fit.n_obs[0] == row["nobs"]
    assert fit.status[0] == (Status.SINGULAR if row["singular"] else Status.CONVERGED)
    wanted = fixef.loc[list(design.fixef_names)]
    stderr = np.sqrt(np.diagonal(fit.vcov[0]))
    np.testing.assert_allclose((fit.beta[0] - wanted["Estimate"]) / wanted["Std. Error"], 0, atol=BETA_IN_SE)
    np.testing.assert_allclose(stderr, wanted["Std. Error"], rtol=RELATIVE)
    sigma2 = row["sigma"] ** 2
    np.testing.assert_allclose(fit.sigma2[0], sigma2, rtol=RELATIVE)
    relative = [variances[t.group, a, b] / sigma2 for t in design.terms for a, b in t.vech_names]
    np.testing.assert_allclose(fit.D[0], relative, rtol=RELATIVE, atol=D_ABSOLUTE)


def observed_dfs(fit, n_fixef):
    return np.array([t_maps(fit, row)["dof"][0] for row in np.eye(n_fixef)])


@pytest.mark.parametrize("reml", [True, False], ids=criterion)
@pytest.mark.parametrize("name", SMALL)
def test_fit_voxels__equals_lme4(classic, name, reml):
    model = CLASSIC[name]
    design, y = classic_design(model, read_table(classic, model.data))
    fit = fit_voxels(make_plan(design), y[None], FitOptions(reml=reml, satterthwaite="observed"))
    row, fixef, variances = reference(classic, name, reml)
    check_fit(fit, design, row, fixef, variances)
    wanted = fixef.loc[list(design.fixef_names), "df"]
    np.testing.assert_allclose(observed_dfs(fit, design.n_fixef), wanted, rtol=DF_RELATIVE)


@pytest.mark.parametrize("name", ANOVA)
def test_f_maps__equals_lmertests_type_3_anova(classic, name):
    model = CLASSIC[name]
    # Sum contrasts make each term's marginal test the test of its own columns.
    design, y = classic_design(model, read_table(classic, model.data), sums=True)
    fit = fit_voxels(make_plan(design), y[None], FitOptions(satterthwaite="observed"))
    table = pd.read_csv(classic / f"{name}_REML_anova_satt.csv").set_index("term")
    terms = [term_of(column, model.factors) for column in design.fixef_names]
    for term, wanted in table.iterrows():
        rows = np.eye(design.n_fixef)[[t == term for t in terms]]
        assert len(rows) == wanted["NumDF"]
        maps = {key: values[0] for key, values in f_maps(fit, rows).items()}
        np.testing.assert_allclose(maps["F"], wanted["F value"], rtol=RELATIVE, err_msg=term)
        np.testing.assert_allclose(maps["dof"], wanted["DenDF"], rtol=DF_RELATIVE, err_msg=term)
        # p moves with the df far out in the tail: its logarithm is what agrees.
        np.testing.assert_allclose(maps["logp"], -np.log10(wanted["Pr(>F)"]), rtol=DF_RELATIVE, err_msg=term)


def term_of(column, factors):
    """``recipeA:temperature.L`` to ``recipe:temperature``."""
    parts = [next((f for f in factors if part.startswith(f)), part) for part in column.split(":")]
    return ":".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False], ids=criterion)
def test_fit_voxels__equals_lme4_on_two_large_crossed_factors(classic, reml):
    if not os.environ.get("BLMM_INSTEVAL"):
        pytest.skip("BLMM_INSTEVAL names no CSV of lme4's InstEval (73,421 rows)")
    model = CLASSIC["insteval_crossed"]
    design, y = classic_design(model, read_table(classic, model.data))
    fit = fit_voxels(make_plan(design), y[None], FitOptions(reml=reml, satterthwaite="observed"))
    row, fixef, variances = reference(classic, "insteval_crossed", reml)
    check_fit(fit, design, row, fixef, variances)
    np.testing.assert_allclose(observed_dfs(fit, 2), fixef["df"], rtol=DF_RELATIVE)
    # 1,128 dense columns behind 2,972 sparse ones, eight lanes: no object of n x n or q x q fits in this.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20
