"""Inner kernels do what the same lines do in Python."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.errors import UnsupportedError

from blmm_bids.stats.kernels.compiling import inner, kernel
from blmm_bids.stats.kernels.records import by_reference

NUMBERS = np.arange(24.0)
BOUNDS = st.integers(-5, 5)


class Things(NamedTuple):
    sizes: np.ndarray
    table: np.ndarray


@inner
def take(things, cube, where, out):
    i, j, k = where[0], where[1], where[2]
    out[0] = cube[i, j, k] + cube[i][j][k] + cube[i, j][k] + cube[0, 1, 2]
    part = cube[i]
    out[1] = part[j, k] + part.shape[0] * 100 + part.size * 10_000
    out[2] = things.table[j, k] - things.sizes[0]
    part[j, k] = 1
    cube[1, 2][3] = where[0]
    out[3:] = part[0, :2]


@inner
def visit(start, stop, step, out):
    n = 0
    for i in range(start, stop):
        for j in range(stop):
            if j > i:
                break
            n += 1
            if j == 1:
                continue
            out[0] += i * j + n
    for i in range(stop, start, -1):
        out[1] = 10 * out[1] + i
    for i in range(start, stop, step):
        out[2] = 10 * out[2] + i
    out[3] = n


@inner
def branch(number, out):
    is_odd = number % 2 == 1
    if is_odd:
        once = number * 10
    last = 0
    for i in range(number):
        both = i if i < 3 else last
        last = both + 1
    if is_odd:
        out[0] = once
    out[1] = last


@inner
def add_from(first, out):
    for i in range(first, out.size):
        out[i] += 1


@inner
def add_twice(first, out):
    add_from(0, out)
    add_from(first, out)


@inner
def last_of(values, out):
    out[0] = values[-1]


@kernel
def call_take(things, cube, where, out):
    take(things, cube, where, out)


@kernel
def call_visit(start, stop, step, out):
    visit(start, stop, step, out)


@kernel
def call_branch(number, out):
    branch(number, out)


@kernel
def call_add_twice(first, out):
    add_twice(first, out)


@kernel
def call_last_of(values, out):
    last_of(values, out)


def both_ways(compiled, python, *arguments):
    """What a kernel writes, and what the same lines do in Python."""
    results = []
    for function in (compiled, python.py_func):
        copies = [np.copy(value) if isinstance(value, np.ndarray) else value for value in arguments]
        out = np.zeros(5)
        function(*copies, out)
        results.append([out, *(value for value in copies if isinstance(value, np.ndarray))])
    return zip(*results, strict=True)


@given(where=st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 3)))
def test_items_parts_and_fields(where):
    cube, things = NUMBERS.reshape(2, 3, 4), Things(np.array([7]), NUMBERS.reshape(4, 6))
    place = np.array(where)
    out = [np.zeros(5) for _ in range(2)]
    cubes = [cube.copy() for _ in range(2)]
    call_take(by_reference(things), cubes[0], place, out[0])
    take.py_func(things, cubes[1], place, out[1])
    assert np.array_equal(*out)
    assert np.array_equal(*cubes)


@given(start=BOUNDS, stop=BOUNDS, step=BOUNDS.filter(bool))
def test_ranges(start, stop, step):
    for ours, pythons in both_ways(call_visit, visit, start, stop, step):
        assert np.array_equal(ours, pythons)


@pytest.mark.parametrize("number", range(6))
def test_variables_of_branches_and_loops(number):
    for ours, pythons in both_ways(call_branch, branch, number):
        assert np.array_equal(ours, pythons)


def test_a_constant_argument_makes_no_kernel_of_its_own():
    out = np.zeros(4)
    call_add_twice(2, out)
    assert out.tolist() == [1, 1, 2, 2]
    assert len(add_from.signatures) == 1


def test_counting_from_the_end_is_refused():
    with pytest.raises(UnsupportedError, match="write the index out"):
        call_last_of(NUMBERS, np.zeros(1))


OUTSIDE = """
import numpy as np
from tests.stats.kernels.test_lowering import call_take
from tests.stats.kernels.test_lowering import Things, by_reference
table = np.zeros((3, 4))
call_take(by_reference(Things(np.ones(1), table)), np.zeros((2, 3, 4)), np.array({where}), np.zeros(5))
"""


@pytest.mark.parametrize("where", [[0, 0, 4], [-1, 0, 0]], ids=["beyond the end", "before the start"])
def test_indices_are_checked_where_numba_is_told_to(tmp_path, where):
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", OUTSIDE.format(where=where)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "IndexError: index is out of bounds" in done.stderr
