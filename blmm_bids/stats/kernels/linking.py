"""Kernels that only kernels call: lowered, linked into their callers, and compiled there once.

numba optimises each function and makes machine code of it together with all that it calls, and does so again
at each level of callers: half of the time that the kernels took to compile went into code that nobody
runs. Optimised once as a whole they are also a little faster, and so they are without the counting of
references around each use of an array: what an inner kernel works on, its callers hold meanwhile.
"""

from __future__ import annotations

from typing import Any

from numba.core import codegen, compiler, compiler_machinery, cpu, typed_passes
from numba.core.runtime import context


class _Unloaded:
    """In the place of the engine that a function would be loaded into; see `_InnerLibrary`."""

    @staticmethod
    def set_env(name: str, env: object) -> None:
        """Nothing of an inner kernel is in memory, so there is no place for its environment."""


class _InnerLibrary(codegen.JITCodeLibrary):
    """Holds what an inner kernel was lowered to, for its callers to link."""

    @property
    def codegen(self) -> type[_Unloaded]:
        return _Unloaded

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002
        return 0

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
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
class _InnerLowering(typed_passes.NativeLowering):
    """Lower into a library that is only linked."""

    _name = "inner_lowering"

    def run_pass(self, state: Any) -> bool:  # noqa: ANN401
        # A copy of its own: this is how numba, too, sets options of one function.
        state.targetctx = state.targetctx.subtarget()
        state.targetctx.__class__ = _BorrowingContext
        state.library = _InnerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return bool(super().run_pass(state))


class InnerCompiler(compiler.CompilerBase):
    """numba's pipeline, ended by `_InnerLowering`."""

    apart = False

    def define_pipelines(self) -> list[Any]:
        """List the one way of compiling."""
        self.state.flags.noalias = self.apart
        passes: Any = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (_InnerLowering if which is typed_passes.NativeLowering else which, why)
            for which, why in passes.passes
        ]
        return [passes]


class ApartCompiler(InnerCompiler):
    """The same for kernels no two of whose arrays overlap, but where both are only read.

    Otherwise each loop over lanes has to find that out before it starts, which takes as long as some dozens
    of its items, and one over more than a few arrays is not made to work on several items at once.
    """

    apart = True
