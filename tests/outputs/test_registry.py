"""The registry declares each output once, in words that others understand."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from blmm_bids.outputs.registry import QUANTITIES, OutputOptions, Scope, quantities_of

INTEGERS = {"analysis": "uint8", "n": "int32", "iterations": "int32", "status": "int16"}
DOUBLES = {"logLikelihood": "float64", "chi2": "float64"}


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda quantity: f"{quantity.scope}-{quantity.name}")
def test_quantity__has_the_type_of_the_contract_and_known_intent(quantity):
    assert quantity.dtype == (INTEGERS | DOUBLES).get(quantity.name, "float32")
    assert quantity.is_integer == (quantity.name in INTEGERS)
    assert quantity.description.endswith(".")
    assert np.dtype(quantity.dtype)
    assert nib.nifti1.intent_codes[quantity.intent] is not None
    assert quantity.switch is None or hasattr(OutputOptions(), quantity.switch)


def test_quantities__are_declared_once():
    pairs = [(quantity.scope, quantity.name) for quantity in QUANTITIES]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize(
    ("options", "scope", "wanted"),
    [
        (OutputOptions("minimal"), Scope.FIT, ["n", "status"]),
        (OutputOptions("minimal"), Scope.T, ["effect", "se", "t", "dof", "z", "logp"]),
        (OutputOptions(), Scope.T, ["effect", "variance", "se", "t", "dof", "z", "logp", "fdr", "fdrBY"]),
        (OutputOptions(), Scope.F, ["F", "dof", "z", "logp", "partialR2", "fdr", "fdrBY"]),
        (
            OutputOptions("full"),
            Scope.T,
            ["effect", "variance", "se", "t", "dof", "z", "logp", "p", "logp2", "fdr", "fdrBY"],
        ),
        (OutputOptions(), Scope.VECH, ["D"]),
        (OutputOptions("full"), Scope.VECH, ["D", "varcorr"]),
        (OutputOptions("full"), Scope.FACTOR, ["icc"]),
        (OutputOptions("full", cov_beta=False), Scope.FIXEF_PAIR, []),
        (
            OutputOptions(resms=False),
            Scope.FIT,
            ["n", "status", "edf", "sigma2", "mean", "logLikelihood", "iterations"],
        ),
    ],
)
def test_quantities_of__follows_level_and_switches(options, scope, wanted):
    assert [quantity.name for quantity in quantities_of(options, [scope])] == wanted
