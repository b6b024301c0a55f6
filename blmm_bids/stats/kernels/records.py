"""Records of arrays that kernels pass to each other by reference.

Handed over by value, a record of twenty arrays is two hundred arguments of every call: most of the time
that kernels take to compile, and a good part of the time that small ones take to run.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba import extending, types
from numba.core.typing import templates
from numba.experimental import structref

from blmm_bids.stats.kernels.compiling import kernel

# numba's annotations say little of these, and some of that is wrong.
_new: Any = structref.new
_signature: Any = templates.signature

Values = TypeVar("Values", bound=tuple[Any, ...])


@structref.register
class RecordType(types.StructRef):
    """A record's type for numba: names and types of its fields."""


class Record(structref.StructRefProxy):
    """A record as Python holds it, to be handed to kernels; its arrays stay those it was made of."""

    __slots__ = ()


_define_boxing: Any = structref.define_boxing
_define_boxing(RecordType, Record)


def by_reference(values: Values) -> Values:
    """Record with the fields of a named tuple of arrays; kernels take it in the tuple's place.

    Typed as what it stands for: kernels read its fields by the same names. Tuples within become
    records as well.
    """
    fields = (by_reference(field) if isinstance(field, tuple) else field for field in values)
    return _build(type(values)(*fields))  # type: ignore[no-any-return]


@kernel
def _build(values: Any) -> Any:  # noqa: ANN401
    return _from_tuple(values)


def _from_tuple(values: Any) -> Any:  # noqa: ANN401
    raise NotImplementedError


@extending.overload(_from_tuple)
def _overload_from_tuple(values: Any) -> Any:  # noqa: ANN401
    make: Any = RecordType
    record_type = make(list(zip(values.fields, values.types, strict=True)))

    def implementation(values: Any) -> Any:  # noqa: ANN401
        record = _new(record_type)
        _set_fields(record, values)
        return record

    return implementation


def _assign(_context: Any, record: Any, values: Any) -> Any:  # noqa: ANN401
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        record_type, values_type = signature.args
        for i, (name, field) in enumerate(zip(values_type.fields, values_type.types, strict=True)):
            assign = context.get_setattr(name, _signature(types.none, record_type, field))
            assign(builder, [args[0], builder.extract_value(args[1], i)])
        return context.get_dummy_value()

    return types.none(record, values), codegen


_set_fields: Any = extending.intrinsic(_assign)
