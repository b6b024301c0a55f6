from __future__ import annotations

import pytest

from blmm_bids.config.settings import parse_outputs
from blmm_bids.errors import UsageError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("minimal", ("minimal", ())),
        ("default", ("default", ())),
        ("full,ranef", ("full", ("ranef",))),
        ("default,ranef,residuals", ("default", ("ranef", "residuals"))),
        ("default, residuals, ranef", ("default", ("ranef", "residuals"))),
        ("minimal,residuals", ("minimal", ("residuals",))),
    ],
)
def test_parse_outputs__takes_a_level_and_what_to_add(text, wanted):
    assert parse_outputs(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("everything", "'everything' is not known"),
        ("ranef", "the level comes first"),
        ("default,residual", "'residual' is not known"),
        ("default,full", "'full' is not known or not in its place"),
        ("ranef,default", "'default' is not known or not in its place"),
        ("default,", "'' is not known"),
        ("", "'' is not known"),
    ],
)
def test_parse_outputs__says_what_was_wanted(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_outputs(text)
    assert "minimal, default or full" in str(caught.value)
