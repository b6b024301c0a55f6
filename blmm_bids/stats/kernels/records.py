"""Records of arrays that kernels pass to each other by reference.

Handed over by value, a record of twenty arrays is two hundred arguments of every call: most of the time
that kernels take to compile, and a good part of the time that small ones take to run.
"""

from __future__ import annotations

import ctypes
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types
from numba.core.registry import cpu_target
from numba.core.runtime import _nrt_python, nrt  # type: ignore[attr-defined]
from numba.experimental import structref

Values = TypeVar("Values", bound=tuple[Any, ...])

nrt.rtsys.initialize(cpu_target.target_context)
# numba's annotations say little of these.
_typeof: Any = numba.typeof
_new_memory: Any = nrt.rtsys.meminfo_new
# Pointer to numba's own header of a piece of memory, by the Python object that stands for it.
_HEADER_OF: Any = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(
    _nrt_python.c_helpers["meminfo_from_pyobject"]
)


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
    records as well. It is laid out here rather than by a kernel, since numba would compile one for each
    kind of record, which takes longer than most kernels do.

    Under ``NUMBA_DISABLE_JIT=1`` kernels are plain functions, and the named tuple serves them as it is.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return values
    held = [by_reference(field) if isinstance(field, tuple) else field for field in values]
    names = type(values)._fields  # type: ignore[attr-defined]
    make: Any = RecordType
    record_type = make([(name, _typeof(field)) for name, field in zip(names, held, strict=True)])
    words = np.array([word for field in held for word in _words(field)], dtype=np.int64)
    # The memory is the words', and they and the arrays live as long as it does.
    memory = _new_memory(words.ctypes.data, (words, held))
    record: Any = Record
    return record._numba_box_(record_type, memory)  # type: ignore[no-any-return]


def _words(field: Any) -> list[int]:  # noqa: ANN401
    """Machine words of a field as numba lays them out.

    An array's are no header and no owner, for it is borrowed, its items, their size, where they are, its
    shape and its strides; a record's is its header.
    """
    if isinstance(field, np.ndarray):
        return [0, 0, field.size, field.itemsize, field.ctypes.data, *field.shape, *field.strides]
    memory = field._meminfo
    header: int = _HEADER_OF(memory)
    # It was counted as held, which the record that holds the field does itself.
    memory.release()
    return [header]
