from __future__ import annotations

import pytest
import yaml

from blmm_bids.config.bounded_yaml import load_bounded_yaml

BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))


def test_load_bounded_yaml__follows_plain_aliases():
    assert load_bounded_yaml("a: &one [1, 0]\nb: *one\n") == {"a": [1, 0], "b": [1, 0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "expand without bound"),
        ("a: &a [*a]\n", "expand without bound"),
        ("[" * 40 + "]" * 40, "expand without bound"),
        ("[" * 100_000, "nested too deeply"),
        ("X: a\nX: b\n", "'X' is given twice, on lines 1 and 2"),
        ("a: {b: 1, b: 2}", "'b' is given twice"),
        ("? [1]\n: 2\n", "a key must be a plain word"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: 2001-99-99\n", "cannot be read"),
        ("a: b: c\n", "mapping values are not allowed"),
        ("a: 1\n--- \nb: 2\n", "expected a single document"),
        ("\tX: 1", "found character"),
    ],
)
def test_load_bounded_yaml__refuses(text, message):
    with pytest.raises(yaml.YAMLError, match=message):
        load_bounded_yaml(text)


def test_load_bounded_yaml__empty_is_none():
    assert load_bounded_yaml("") is None
