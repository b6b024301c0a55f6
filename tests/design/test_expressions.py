"""Expressions have no way to Python: whatever is written is refused or computed, and nothing else runs."""

from __future__ import annotations

import builtins
import os
import subprocess
import time

import numpy as np
import pytest

from blmm_bids.design.columns import Variables
from blmm_bids.design.formula import model_matrix, parse_formula
from blmm_bids.errors import ModelSpecError
from tests.design.tables import longitudinal

COLUMNS = Variables(longitudinal(), {})


def matrix_of(formula):
    return model_matrix(parse_formula(formula), COLUMNS, COLUMNS.n_obs)


ESCAPES = [
    "__import__('os').system('x')",
    "__import__('os')(age)",
    "{__import__('os')}",
    "age.__class__",
    "log(age.__class__)",
    "{().__class__.__bases__[0].__subclasses__()}",
    "{[x for x in age]}",
    "{(x for x in age)}",
    "{lambda: 1}",
    "{age if 1 else 2}",
    "{age[0]}",
    "age[0]",
    "C(age)[0]",
    "{f'{age}'}",
    "{(x := 3)}",
    "{open('f')}",
    "{eval('1')}",
    "eval('1')",
    "exec('1')",
    "{log(*age)}",
    "{log(**age)}",
    "bs(age, _state={})",
    "bs(age, df=4, _context=age)",
    "{print(age)}",
    "np.load('f')",
    "{np.load('f')}",
    "contr.custom(age)",
    "hashed(age)",
    "lag(age)",
    "Q('age')",
    "{age.values.tofile('f')}",
    "{age @ age}",
    "{age and sex}",
    "{not age}",
    "{age == 1}",
    "{{1: 2}}",
    "{{1, 2}}",
    "{await age}",
    "{yield}",
    "{b'x'}",
    "{3j}",
    "{...}",
    "{1 if age else 2}",
    "{age, sex}",
    "log.__globals__",
    "{log.__globals__}",
    "log(age).__class__",
    "{log(age).__class__}",
    "C(sex, contr.__dict__)",
    "C(sex, contr.treatment.__init__)",
    "getattr(age, 'x')",
    "{getattr(age, '__class__')}",
    "`age`.__class__",
    "{`age`.__class__}",
    "{'a' * 10 ** 9}",
    "{'%s' % age}",
    "{age % 2}",
    "{age // 2}",
    "{~age}",
    "{age << 99}",
    "vars()",
    "globals()",
    "builtins.open('f')",
    "(lambda: 1)()",
    "center(age, by=__import__('os'))",
    "center(age, **{'by': 1})",
    "{9**9**9**9**9}",
    "{10**10**10}",
    "exp(exp(exp(age)))",
    "{" + "-" * 5000 + "1}",
    "{" + "(" * 25 + "age" + ")" * 25 + "}",
    "I(" * 25 + "age" + ")" * 25,
    "{" + "+".join(["age"] * 4000) + "}",
    "{age\n.__class__}",
    "{age#}",
    "age\x00",
    "log(age\x00)",
    "{'\\N{BULLET}'}",
    "{\\}",
    "{age\\\n}",
]


@pytest.mark.parametrize("formula", ESCAPES)
def test_evaluate__has_no_way_to_python(formula, monkeypatch):
    """Nothing that reaches Python's own functions runs, whether the formula is refused or computed."""

    def trap(*arguments, **keywords):
        raise AssertionError((formula, arguments))

    for owner, name in ((builtins, "eval"), (builtins, "exec"), (os, "system"), (subprocess, "Popen")):
        monkeypatch.setattr(owner, name, trap)
    started = time.monotonic()
    try:
        values = matrix_of(formula).values
    except ModelSpecError:
        pass
    else:
        assert values.dtype == np.float64
    assert time.monotonic() - started < 5
