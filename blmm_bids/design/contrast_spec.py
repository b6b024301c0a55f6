"""Read ``Contrasts``, ``DummyContrasts`` and ``--contrast NAME=EXPR``, before any design is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from blmm_bids.design.spec_fields import (
    as_choice,
    as_list,
    as_number,
    as_object,
    as_text,
    as_weight,
    check_keys,
    check_unique,
    wrong,
)
from blmm_bids.errors import ModelSpecError

Test = Literal["t", "F"]
TESTS = ("t", "F")

_INTERCEPT = "Intercept"


@dataclass(frozen=True)
class ContrastSpec:
    """A contrast as the user wrote it.

    Attributes
    ----------
    name : str
        Name of the contrast.
    conditions : tuple of str
        Columns of the design, ``"Intercept"`` for 1; empty with an expression.
    weights : tuple of tuple of float
        One row a row of L, one number a condition; empty with an expression.
    test : {"t", "F"} or None
        None: an expression's rows decide.
    expression : str
        Linear expression over columns, rows separated by ``;``, or a term's name; empty otherwise.
    """

    name: str
    conditions: tuple[str, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    test: Test | None = None
    expression: str = ""


@dataclass(frozen=True)
class DummySpec:
    """One contrast per column.

    Attributes
    ----------
    test : {"t", "F"}
        Which statistic.
    contrasts : tuple of str or None
        Columns or terms; None: all columns.
    """

    test: Test = "t"
    contrasts: tuple[str, ...] | None = None


def parse_contrasts(value: object, where: str) -> tuple[ContrastSpec, ...]:
    """Read a node's Contrasts.

    Parameters
    ----------
    value : object
        The list; None where absent.
    where : str
        The node, for messages.

    Returns
    -------
    tuple of ContrastSpec
        In order.

    Raises
    ------
    ModelSpecError
        Wrong types, weights that do not fit the conditions, 2-D weights with test t, a name used twice.
    """
    if value is None:
        return ()
    specs = tuple(_parse_contrast(item, where) for item in as_list(value, f"Contrasts of {where}"))
    check_unique([spec.name for spec in specs], f"Contrasts of {where}")
    return specs


def parse_dummy(value: object, where: str) -> DummySpec | None:
    """Read a node's DummyContrasts; None where absent.

    Raises
    ------
    ModelSpecError
        Wrong types or an unknown test.
    """
    if value is None:
        return None
    block = as_object(value, f"DummyContrasts of {where}")
    check_keys(block, ("Contrasts", "Test", "Description"), f"DummyContrasts of {where}")
    test = _parse_test(block.get("Test", "t"), f"DummyContrasts of {where}")
    names = block.get("Contrasts")
    return DummySpec(
        test, None if names is None else _parse_conditions(names, f"Contrasts in DummyContrasts of {where}")
    )


def parse_contrast_option(text: str) -> ContrastSpec:
    """Read ``--contrast NAME=EXPR``.

    Parameters
    ----------
    text : str
        For instance ``"older=age - 2*sex[T.M]"``.

    Returns
    -------
    ContrastSpec
        With its expression; it is read when the columns are known.

    Raises
    ------
    ModelSpecError
        No name or no expression.
    """
    name, equals, expression = text.partition("=")
    if not (equals and name.strip() and expression.strip()):
        msg = f"--contrast '{text}' must be NAME=EXPRESSION, as in --contrast 'older=age - 2*sex[T.M]'"
        raise ModelSpecError(msg)
    return ContrastSpec(name.strip(), expression=expression.strip())


def _parse_contrast(value: object, where: str) -> ContrastSpec:
    block = as_object(value, f"each entry of Contrasts of {where}")
    name = _as_name(block.get("Name"), f"Name of a contrast of {where}")
    where = f"contrast '{name}' of {where}"
    check_keys(block, ("Name", "ConditionList", "Weights", "Test", "Description"), where)
    conditions = _parse_conditions(block.get("ConditionList"), f"ConditionList of {where}")
    rows = as_list(block.get("Weights"), f"Weights of {where}")
    is_nested = bool(rows) and all(isinstance(row, (list, tuple)) for row in rows)
    if not is_nested and any(isinstance(row, (list, tuple)) for row in rows):
        msg = f"model spec: Weights of {where} mix numbers and lists; write one list, or one list a row"
        raise ModelSpecError(msg)
    weights = tuple(_parse_row(row, len(conditions), where) for row in (rows if is_nested else [rows]))
    test = _parse_test(block.get("Test", "F" if is_nested else "t"), where)
    if is_nested and test == "t":
        msg = (
            f"model spec: {where} has 2-D Weights, which make an F contrast, and Test 't'; write [1, "
            "-1] or Test 'F'"
        )
        raise ModelSpecError(msg)
    return ContrastSpec(name, conditions, weights, test)


def _parse_conditions(value: object, where: str) -> tuple[str, ...]:
    names = [_as_name(item, f"each entry of {where}") for item in as_list(value, where)]
    if not names:
        raise wrong(where, "a list with at least one column", value)
    check_unique(names, where)
    return tuple(names)


def _as_name(value: object, where: str) -> str:
    """Name of a contrast or a condition; 1 is the intercept, as in X, and other numbers are names, too."""
    if isinstance(value, str):
        return as_text(value, where)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(where, "a column's name or 1", value)
    return _INTERCEPT if value == 1 else f"{as_number(value, where):.15g}"


def _parse_row(row: list[object], n_conditions: int, where: str) -> tuple[float, ...]:
    if len(row) != n_conditions:
        msg = (
            f"model spec: {where} has {len(row)} weights in a row and {n_conditions} conditions; they "
            "must be as many"
        )
        raise ModelSpecError(msg)
    return tuple(as_weight(weight, f"each weight of {where}") for weight in row)


def _parse_test(value: object, where: str) -> Test:
    if isinstance(value, str) and value.strip().casefold() == "pass":
        msg = (
            f"model spec: Test 'pass' of {where} hands estimates to a next level, and Dataset is the "
            "last; write 't'"
        )
        raise ModelSpecError(msg)
    if isinstance(value, str) and value.strip().casefold() in ("fema", "meta"):
        msg = (
            f"model spec: Test '{value}' of {where} weighs maps by their first-level variances, which are "
            "not read here; write 't', which weighs all images alike"
        )
        raise ModelSpecError(msg)
    return cast("Test", as_choice(value, f"Test of {where}", TESTS))
