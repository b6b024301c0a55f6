"""Session-wide settings and fixtures."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

CHECKOUT = Path(__file__).resolve().parents[1]

settings.register_profile("blmm", deadline=None, derandomize=True, max_examples=50, database=None)
settings.load_profile("blmm")


# Shells let what they start in the background ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _kernel_cache() -> Path:
    """Directory of compiled kernels, a new one whenever a source of ``stats`` changes.

    numba looks only at the file of the function itself, not at what that function calls, so a
    cache that outlives a change of a callee would run the old code.
    """
    digest = hashlib.sha256()
    for source in sorted((CHECKOUT / "blmm_bids" / "stats").rglob("*.py")):
        digest.update(source.read_bytes())
    return CHECKOUT / ".pytest_cache" / f"numba-{digest.hexdigest()[:16]}"


# Before the first import of numba, and inherited by every worker and subprocess.
os.environ.setdefault("NUMBA_CACHE_DIR", str(_kernel_cache()))


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Root of the source tree."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Reference data sets (faces, sleepstudy, classic), kept outside the source tree."""
    root = Path(os.environ.get("BLMM_SHARED_DATA") or CHECKOUT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no reference data at {root}; set BLMM_SHARED_DATA to their directory")
    return root
