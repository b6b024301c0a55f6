"""Amounts of memory."""

from __future__ import annotations

import pytest

from blmm_bids.cluster import format_memory, parse_memory
from blmm_bids.errors import UsageError

MB, GB = 2**20, 2**30


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("4000", 4000 * MB),
        (4000, 4000 * MB),
        ("4G", 4 * GB),
        ("4g", 4 * GB),
        ("4GB", 4 * GB),
        ("4 GiB", 4 * GB),
        ("1.5G", 3 * GB // 2),
        (".5G", GB // 2),
        ("2048K", 2 * MB),
        ("1T", 1024 * GB),
        (" 512M ", 512 * MB),
    ],
)
def test_parse_memory__units(text, n_bytes):
    assert parse_memory(text) == n_bytes


@pytest.mark.parametrize(
    "text", ["", "G", "-4G", "0", "4X", "4 G G", "1e9", "nan", "inf", "4,5G", "\u0661G", "9" * 500]
)
def test_parse_memory__says_what_it_wants(text):
    with pytest.raises(UsageError, match="--mem"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(300 * MB, "300 MB"), (4 * GB, "4096 MB"), (64 * GB, "64.0 GB")]
)
def test_format_memory__reads_well(n_bytes, text):
    assert format_memory(n_bytes) == text
