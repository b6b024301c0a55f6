"""numba's way from a function to compiled code, made shorter for kernels."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any, ClassVar

from numba import types
from numba.core import compiler, typed_passes, untyped_passes
from numba.core.typing import context

from blmm_bids.stats.kernels.linking import InnerLowering, KernelLowering

# Objects between collections, and collections between those of older ones: what a compilation makes mostly
# lives to its end. With none at all it would take twice the memory.
_THRESHOLDS = 50_000, 20, 20
# No kernel has what these look for: closures, expressions of whole arrays, functions to be put in place of
# calls as numba's own code.
_NEEDLESS = {untyped_passes.InlineClosureLikes, typed_passes.NopythonRewrites, typed_passes.InlineOverloads}
# Nor has an inner one what these make: other expressions for constant operands, and ends of variables, at
# which references would be counted.
_NEEDLESS_INSIDE = {untyped_passes.GenericRewrites, typed_passes.IRLegalization}


class _RememberingContext(context.Context):
    """Finds out once what a function or an operator means for arguments of some types.

    numba tries all that it may mean, at each place where it stands.
    """

    found: ClassVar[dict[Any, Any]] = {}

    def __init__(self, original: context.Context) -> None:
        # The declarations are the original's, those added later too.
        self.__dict__ = original.__dict__

    def _resolve_user_function_type(self, func: Any, args: Any, kws: Any, literals: Any = None) -> Any:  # noqa: ANN401
        function = self._lookup_global(func) or func
        if isinstance(function, types.Dispatcher):
            # A kernel for a 0 alone would be one kernel more.
            args = tuple(types.unliteral(kind) for kind in args)
        if not isinstance(function, types.Function):
            return super()._resolve_user_function_type(func, args, kws, literals)
        key = function, tuple(args), tuple(dict(kws).items())
        if key not in self.found:
            self.found[key] = super()._resolve_user_function_type(func, args, kws, literals)
        return self.found[key]

    def resolve_value_type(self, val: Any) -> Any:  # noqa: ANN401
        if not callable(val):
            return super().resolve_value_type(val)
        if val not in self.found:
            self.found[val] = super().resolve_value_type(val)
        return self.found[val]

    def resolve_setitem(self, target: Any, index: Any, value: Any) -> Any:  # noqa: ANN401
        key = target, index, value
        if key not in self.found:
            self.found[key] = super().resolve_setitem(target, index, value)
        return self.found[key]


# One for each of numba's, which is what numba, too, remembers things by.
_remembering = cache(_RememberingContext)


class KernelCompiler(compiler.CompilerBase):
    """Compiles a kernel that Python calls, and with it those that it calls."""

    lowering: ClassVar[type[typed_passes.NativeLowering]] = KernelLowering
    needless: ClassVar[set[Any]] = _NEEDLESS

    def define_pipelines(self) -> list[Any]:
        """List the one way of compiling."""
        self.state.typingctx = _remembering(self.state.typingctx)
        passes: Any = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (self.lowering if which is typed_passes.NativeLowering else which, why)
            for which, why in passes.passes
            if which not in self.needless
        ]
        return [passes]

    def compile_extra(self, func: Any) -> Any:  # noqa: ANN401
        """Compile a function."""
        thresholds = gc.get_threshold()
        gc.set_threshold(*_THRESHOLDS)
        try:
            return super().compile_extra(func)
        finally:
            gc.set_threshold(*thresholds)


class InnerCompiler(KernelCompiler):
    """Compiles a kernel that only kernels call as far as they need it."""

    lowering = InnerLowering
    needless = _NEEDLESS | _NEEDLESS_INSIDE
    apart = False

    def define_pipelines(self) -> list[Any]:
        """List the one way of compiling."""
        self.state.flags.noalias = self.apart
        return super().define_pipelines()


class ApartCompiler(InnerCompiler):
    """The same for kernels no two of whose arrays overlap, but where both are only read.

    Otherwise each loop over lanes has to find that out before it starts, which takes as long as some dozens
    of its items, and one over more than a few arrays is not made to work on several items at once.
    """

    apart = True
