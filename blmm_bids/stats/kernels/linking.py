"""Kernels that only kernels call: lowered, linked into those that Python calls, and compiled there once.

numba optimises each function, twice, makes machine code of it together with all that it calls, and does so
again at each level of callers: more than half of the time that the kernels took to compile went into code
that nobody runs. Optimised once and as a whole they are as fast. References are not counted around each use
of an array: what an inner kernel works on, its callers hold meanwhile.
"""

from __future__ import annotations

from typing import Any

from numba.core import codegen, compiler_machinery, cpu, typed_passes
from numba.core.runtime import context

from blmm_bids.stats.kernels.lowering import InnerLower

# LLVM's third level takes longer and gives nothing here.
_LEVEL = 2


class _Unloaded:
    """In the place of the engine that a function would be loaded into; see `_InnerLibrary`."""

    @staticmethod
    def set_env(name: str, env: object) -> None:
        """Nothing of an inner kernel is in memory, so there is no place for its environment."""


class _FlatLibrary(codegen.JITCodeLibrary):
    """Links all inner kernels that it reaches, each once, and not those that it calls with theirs in them."""

    def add_linking_library(self, library: Any) -> None:  # noqa: ANN401
        super().add_linking_library(library)
        if isinstance(library, _InnerLibrary):
            self._linking_libraries.extend(library._linking_libraries)

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager(opt=_LEVEL)
        passes.run(self._final_module, builder)


class _InnerLibrary(_FlatLibrary):
    """Holds what an inner kernel was lowered to, for kernels to link."""

    @property
    def codegen(self) -> type[_Unloaded]:
        return _Unloaded

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002
        return 0

    def _optimize_functions(self, ll_module: Any) -> None:  # noqa: ANN401
        pass

    def finalize(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _Borrowed(context.NRTContext):
    """Counts no references."""

    def incref(self, builder: object, typ: object, value: object) -> None:
        pass

    def decref(self, builder: object, typ: object, value: object) -> None:
        pass


class _BorrowingContext(cpu.CPUContext):
    """The target of an inner kernel."""

    @property
    def nrt(self) -> _Borrowed:
        return _Borrowed(self, enabled=True)


_register: Any = compiler_machinery.register_pass


@_register(mutates_CFG=True, analysis_only=False)
class KernelLowering(typed_passes.NativeLowering):
    """Lower into a library that is kept in the cache."""

    _name = "kernel_lowering"

    def run_pass(self, state: Any) -> bool:  # noqa: ANN401
        """Do it."""
        state.library = _FlatLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return bool(super().run_pass(state))


@_register(mutates_CFG=True, analysis_only=False)
class InnerLowering(typed_passes.NativeLowering):
    """Lower into a library that is only linked."""

    _name = "inner_lowering"

    @property
    def lowering_class(self) -> type[InnerLower]:
        """What lowers it."""
        return InnerLower

    def run_pass(self, state: Any) -> bool:  # noqa: ANN401
        """Do it."""
        # A copy of its own: this is how numba, too, sets options of one function.
        state.targetctx = state.targetctx.subtarget()
        state.targetctx.__class__ = _BorrowingContext
        # What was found out once is remembered by this one.
        state.targetctx.typing_context = state.typingctx
        state.library = _InnerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return bool(super().run_pass(state))
