"""How kernels are compiled, and where the compiled code is kept."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba

from blmm_bids.stats.kernels.pipelines import ApartCompiler, InnerCompiler, KernelCompiler
from blmm_bids.stats.kernels.prebuilt import link_prebuilt

if TYPE_CHECKING:
    from collections.abc import Callable


def _cache_dir() -> Path:
    """Find a writable folder keyed by the kernels' source.

    numba looks at a kernel's own file when it decides whether a cached build is stale, not at the
    files of the kernels that it calls; the hash of all of them is what makes the cache true.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    name = f"blmm-bids-numba-{digest.hexdigest()[:16]}"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")  # noqa: PTH111, PTH118
    for root in (base, os.path.join(tempfile.gettempdir(), f"blmm-bids-{os.getuid()}")):  # noqa: PTH118
        folder = Path(root) / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix=name))


_folder: Path | None = None
if not os.environ.get("NUMBA_CACHE_DIR"):
    _folder = _cache_dir()
    link_prebuilt(_folder)

# Contraction to fused multiply-add changes no result between block widths and costs nothing;
# anything more of fastmath would. numpy's error model: a division by zero gives inf, not a raise.
_OPTIONS: Any = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}


def kernel(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    """Compile a function that Python calls, or load it from the cache."""
    if _folder is not None:
        # Each time: numba reads its settings anew where variables of its own have changed since, as in a
        # worker that is a copy of another process.
        numba.config.CACHE_DIR = str(_folder)  # type: ignore[attr-defined]
    return numba.njit(**_OPTIONS, cache=True, pipeline_class=KernelCompiler)(function)


# For kernels that only kernels call: without the wrapper for Python, whose unpacking of records of
# arrays takes longer to compile than most kernels. Called from Python they crash the interpreter; their
# ``py_func`` does not.
_ONLY_LINKED: Any = {"no_cpython_wrapper": True, "pipeline_class": InnerCompiler}
inner: Any = numba.njit(**_OPTIONS, **_ONLY_LINKED)
# The same where what is written is reached by one argument alone, and by no record among them.
apart: Any = numba.njit(**_OPTIONS, **{**_ONLY_LINKED, "pipeline_class": ApartCompiler})
# For sums of many products, whose order may be whatever is fastest: it is the same for every voxel.
summing: Any = numba.njit(**{**_OPTIONS, **_ONLY_LINKED, "fastmath": {"contract", "reassoc"}})
