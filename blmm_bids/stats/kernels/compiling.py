"""How kernels are compiled, and where the compiled code is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba

from blmm_bids.stats.kernels.cache_files import guard_files
from blmm_bids.stats.kernels.cache_folder import find_cache_folder, say_where
from blmm_bids.stats.kernels.pipelines import ApartCompiler, InnerCompiler, KernelCompiler
from blmm_bids.stats.kernels.prebuilt import link_prebuilt

if TYPE_CHECKING:
    from collections.abc import Callable


_folder = find_cache_folder()
link_prebuilt(_folder)
say_where()

# Contraction to fused multiply-add changes no result between block widths and costs nothing;
# anything more of fastmath would. numpy's error model: a division by zero gives inf, not a raise.
_OPTIONS: Any = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}


def kernel(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    """Compile a function that Python calls, or load it from the cache.

    Under ``NUMBA_DISABLE_JIT=1`` it stays a plain function, for breakpoints and coverage.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return function
    # Each time: numba reads its settings anew where variables of its own have changed since, as in a
    # worker that is a copy of another process.
    numba.config.CACHE_DIR = str(_folder)  # type: ignore[attr-defined]
    return guard_files(numba.njit(**_OPTIONS, cache=True, pipeline_class=KernelCompiler)(function))


# For kernels that only kernels call: without the wrapper for Python, whose unpacking of records of
# arrays takes longer to compile than most kernels. Called from Python they crash the interpreter; their
# ``py_func`` does not.
_ONLY_LINKED: Any = {"no_cpython_wrapper": True, "pipeline_class": InnerCompiler}
inner: Any = numba.njit(**_OPTIONS, **_ONLY_LINKED)
# The same where what is written is reached by one argument alone, and by no record among them.
apart: Any = numba.njit(**_OPTIONS, **{**_ONLY_LINKED, "pipeline_class": ApartCompiler})
# For sums of many products, whose order may be whatever is fastest: it is the same for every voxel.
summing: Any = numba.njit(**{**_OPTIONS, **_ONLY_LINKED, "fastmath": {"contract", "reassoc"}})
