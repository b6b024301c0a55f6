"""Where compiled kernels are kept."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import os
from blmm_bids.stats.kernels import folding
from numba.core import config
before = folding.evaluate.stats.cache_path
os.environ["NUMBA_NUM_THREADS"] = "1"
config.reload_config()
from blmm_bids.stats.kernels import modes
print(before)
print(modes.write_modes.stats.cache_path)
"""


def test_kernel__is_kept_in_the_same_place_after_numba_read_its_settings_anew(tmp_path):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    places = done.stdout.split()
    assert len(places) == 2
    assert len(set(places)) == 1
    assert places[0].startswith(str(tmp_path))
