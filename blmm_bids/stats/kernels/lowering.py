"""What the statements of an inner kernel become: numba's own way, but for what nearly all of them consist of.

Kernels index arrays by numbers, go through ranges, do arithmetic, and read fields of records. numba is ready
for all that these may mean: an index that counts from the end, a range whose step is known late, an operand
known early, a variable that is assigned anew. For each it makes many times the code that a kernel needs,
which takes as long to write as to optimise away. No kernel counts from the end, and arrays are C-contiguous.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import analysis, cgutils, errors, lowering
from numba.core import ir as numba_ir
from numba.core.runtime import nrtdynmod

# Where numba keeps what it knows of an array, and of the memory of a record.
_PLACES = {
    name: place
    for place, name in enumerate(("meminfo", "parent", "nitems", "itemsize", "data", "shape", "strides"))
}
_RECORD_DATA = 3
_NO_OVERFLOW = ("nsw",)
_ARITHMETIC = {
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
}


class InnerLower(lowering.Lower):
    """Lowers an inner kernel. What it has no shorter way for goes numba's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        # Start, stop and step of ranges; of what goes through one, places of the item and of how many are
        # left, and the step.
        self._ranges: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Constant]] = {}
        self._cursors: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Constant]] = {}

    def lower_expr(self, resty: Any, expr: Any) -> Any:  # noqa: ANN401
        """Lower an expression."""
        if expr.op == "getattr" and isinstance(self.typeof(expr.value.name), types.StructRef):
            return self._field(resty, expr)
        if expr.op in ("pair_first", "pair_second"):
            return self._half(resty, expr)
        if expr.op == "getiter" and (bounds := self._ranges.get(self.loadvar(expr.value.name))):
            return self._start(resty, *bounds)
        if expr.op == "iternext" and (cursor := self._cursors.get(self.loadvar(expr.value.name))):
            return self._go_on(resty, *cursor)
        return super().lower_expr(resty, expr)

    def lower_getitem(self, resty: Any, expr: Any, value: Any, index: Any, signature: Any) -> Any:  # noqa: ANN401
        """Lower an index in an expression."""
        kind = self.typeof(value.name)
        whole, place = self.loadvar(value.name), self.loadvar(index.name)
        if isinstance(kind, types.BaseTuple) and isinstance(place, ir.Constant):
            return self.builder.extract_value(whole, place.constant)
        places = self._numbers(kind, index)
        if not places:
            return super().lower_getitem(resty, expr, value, index, signature)
        pointer = self._point(kind, whole, places)
        if len(places) == kind.ndim:
            return self.context.unpack_value(self.builder, kind.dtype, pointer)
        return self._describe(resty, whole, pointer, len(places))

    def lower_setitem(self, target: Any, index: Any, value: Any, signature: Any) -> None:  # noqa: ANN401
        """Lower an assignment to items."""
        kind = self.typeof(target.name)
        places = self._numbers(kind, index)
        if not places or len(places) < kind.ndim:
            super().lower_setitem(target, index, value, signature)
            return
        pointer = self._point(kind, self.loadvar(target.name), places)
        self.context.pack_value(self.builder, kind.dtype, self._load_as(kind.dtype, value), pointer)

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:  # noqa: ANN401
        """Lower an operator."""
        signature = self.fndesc.calltypes[expr]
        if op not in _ARITHMETIC or not all(isinstance(kind, types.Number) for kind in signature.args):
            return super().lower_binop(resty, expr, op)
        function = self.context.typing_context.resolve_value_type(op)
        if signature.args not in function._impl_keys:
            # It is given to those who have asked.
            function.get_call_type(self.context.typing_context, signature.args, {})
        operands = [
            self._load_as(kind, operand)
            for kind, operand in zip(signature.args, (expr.lhs, expr.rhs), strict=True)
        ]
        result = self.context.get_function(function, signature)(self.builder, operands)
        return self.context.cast(self.builder, result, signature.return_type, resty)

    def _lower_call_normal(self, fnty: Any, expr: Any, signature: Any) -> Any:  # noqa: ANN401
        if signature.return_type != types.range_state64_type:
            return super()._lower_call_normal(fnty, expr, signature)
        given = self.fold_call_args(fnty, signature, expr.args, expr.vararg, expr.kws)
        zero, one = (self.context.get_constant(types.intp, number) for number in (0, 1))
        start, stop, step = ((zero, *given, one), (*given, one), given)[len(given) - 1]
        value = self._struct(signature.return_type, (start, stop, step))
        if isinstance(step, ir.Constant) and abs(step.constant) == 1:
            self._ranges[value] = start, stop, step
        return value

    def _find_singly_assigned_variable(self) -> None:
        """Find variables that need no place in memory: assigned once, at a place that all uses come after."""
        dominators = analysis.compute_cfg_from_blocks(self.blocks).dominators()
        use_defs = analysis.compute_use_defs(self.blocks)
        counts = Counter(
            statement.target.name
            for block in self.blocks.values()
            for statement in block.find_insts(numba_ir.Assign)
        )
        single = {name for name, n in counts.items() if n == 1} - set(analysis.must_use_alloca(self.blocks))
        blocks = {name: label for label, names in use_defs.defmap.items() for name in names}
        for label, names in use_defs.usemap.items():
            # Within its own block this is a use before the assignment.
            single -= {
                name
                for name in names & single
                if blocks[name] == label or blocks[name] not in dominators[label]
            }
        self._singly_assigned_vars = single
        self._blk_local_varmap: dict[str, ir.Value] = {}

    def _load_as(self, kind: Any, variable: Any) -> ir.Value:  # noqa: ANN401
        return self.context.cast(self.builder, self.loadvar(variable.name), self.typeof(variable.name), kind)

    def _struct(self, kind: Any, parts: Sequence[ir.Value]) -> ir.Value:  # noqa: ANN401
        value = ir.Constant(self.context.get_value_type(kind), ir.Undefined)
        for i, part in enumerate(parts):
            value = self.builder.insert_value(value, part, i)
        return value

    def _placed(self, value: ir.Value) -> ir.Value:
        place = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, place)
        return place

    def _start(self, kind: Any, start: ir.Value, stop: ir.Value, step: ir.Constant) -> ir.Value:  # noqa: ANN401
        """Start going through a range with a step of 1 or -1."""
        low, high = (start, stop) if step.constant == 1 else (stop, start)
        item = self._placed(start)
        n_left = self._placed(self.builder.sub(high, low, flags=_NO_OVERFLOW))
        value = self._struct(kind, (item, stop, step, n_left))
        self._cursors[value] = item, n_left, step
        return value

    def _go_on(self, kind: Any, item_place: ir.Value, left_place: ir.Value, step: ir.Constant) -> ir.Value:  # noqa: ANN401
        """Go to the next item of a range: the item, and whether there is one."""
        item, n_left = self.builder.load(item_place), self.builder.load(left_place)
        self.builder.store(self.builder.add(item, step), item_place)
        self.builder.store(self.builder.sub(n_left, n_left.type(1)), left_place)
        return self._struct(kind, (item, self.builder.icmp_signed(">", n_left, n_left.type(0))))

    def _half(self, resty: Any, expr: Any) -> ir.Value:  # noqa: ANN401
        """Take the item, or whether there is one."""
        pair = self.typeof(expr.value.name)
        place, kind = (0, pair.first_type) if expr.op == "pair_first" else (1, pair.second_type)
        half = self.builder.extract_value(self.loadvar(expr.value.name), place)
        return self.context.cast(self.builder, half, kind, resty)

    def _field(self, resty: Any, expr: Any) -> ir.Value:  # noqa: ANN401
        """Load a field of a record."""
        builder, record = self.builder, self.typeof(expr.value.name)
        memory = builder.extract_value(self.loadvar(expr.value.name), 0)
        memory = builder.bitcast(memory, nrtdynmod._meminfo_struct_type.as_pointer())
        data = builder.load(cgutils.gep_inbounds(builder, memory, 0, _RECORD_DATA))
        model = self.context.data_model_manager[record.get_data_type()]
        fields = builder.bitcast(data, model.get_value_type().as_pointer())
        place = cgutils.gep_inbounds(builder, fields, 0, model.get_field_position(expr.attr))
        return self.context.cast(builder, builder.load(place), record.field_dict[expr.attr], resty)

    def _numbers(self, kind: Any, index: Any) -> list[ir.Value]:  # noqa: ANN401
        """List the numbers that an index of an array consists of; none where it is anything else."""
        index_kind, value = self.typeof(index.name), self.loadvar(index.name)
        is_tuple = isinstance(index_kind, types.BaseTuple)
        kinds = index_kind.types if is_tuple else (index_kind,)
        if not (isinstance(kind, types.Array) and kind.layout == "C" and kind.aligned):
            return []
        if not all(isinstance(each, types.Integer) for each in kinds):
            return []
        values = [self.builder.extract_value(value, i) for i in range(len(kinds))] if is_tuple else [value]
        numbers = [
            self.context.cast(self.builder, each, given, types.intp)
            for each, given in zip(values, kinds, strict=True)
        ]
        if any(isinstance(number, ir.Constant) and number.constant < 0 for number in numbers):
            msg = "inner kernels do not count from the end of an array; write the index out"
            raise errors.UnsupportedError(msg)
        return numbers

    def _point(self, kind: types.Array, value: ir.Value, places: Sequence[ir.Value]) -> ir.Value:
        """Point to an item, or to the first one of a part of an array."""
        builder = self.builder
        offset = None
        for axis in range(kind.ndim):
            size = self._size(value, axis)
            if axis:
                offset = builder.mul(offset, size, flags=_NO_OVERFLOW)
            if axis < len(places):
                if self.context.enable_boundscheck:
                    cgutils.do_boundscheck(self.context, builder, places[axis], size, axis)
                offset = builder.add(offset, places[axis], flags=_NO_OVERFLOW) if axis else places[axis]
        return builder.gep(builder.extract_value(value, _PLACES["data"]), [offset], inbounds=True)

    def _size(self, value: ir.Value, axis: int) -> ir.Value:
        return self.builder.extract_value(value, [_PLACES["shape"], axis])

    def _describe(self, kind: types.Array, value: ir.Value, pointer: ir.Value, n_gone: int) -> ir.Value:
        """Describe a part of an array that starts at an address and lacks the first axes."""
        builder = self.builder
        part = ir.Constant(self.context.get_value_type(kind), ir.Undefined)
        for name in ("meminfo", "parent", "itemsize"):
            part = builder.insert_value(part, builder.extract_value(value, _PLACES[name]), _PLACES[name])
        n_items = None
        for axis in range(kind.ndim):
            size = self._size(value, n_gone + axis)
            stride = builder.extract_value(value, [_PLACES["strides"], n_gone + axis])
            part = builder.insert_value(part, size, [_PLACES["shape"], axis])
            part = builder.insert_value(part, stride, [_PLACES["strides"], axis])
            n_items = builder.mul(n_items, size, flags=_NO_OVERFLOW) if axis else size
        part = builder.insert_value(part, n_items, _PLACES["nitems"])
        return builder.insert_value(part, pointer, _PLACES["data"])
