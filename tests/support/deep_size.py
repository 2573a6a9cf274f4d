"""What an object takes with all that only it leads to, as Python says of each: `sys.getsizeof`."""

import sys
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

_NOT_STATE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
_FIELDS = ("__struct_fields__", "__slots__", "__mypyc_attrs__")


def deep_size(root: object, seen: set[int] | None = None) -> int:
    """Bytes; of what is in `seen` none, and all that was counted is added to it."""
    seen, size, left = set() if seen is None else seen, 0, [root]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, _NOT_STATE):
            continue
        seen.add(id(each))
        size += sys.getsizeof(each)
        left += _inside(each)
    return size


def _inside(each: object) -> Iterator[object]:
    if isinstance(each, str | bytes | int | float):
        return
    if isinstance(each, Mapping):
        for key, value in each.items():
            yield key
            yield value
    elif isinstance(each, list | tuple | set | frozenset):
        yield from each
    yield from getattr(each, "__dict__", {}).values()
    for kind in type(each).__mro__:
        for fields in _FIELDS:
            names = vars(kind).get(fields, ())
            for name in names if isinstance(names, tuple | list) else ():
                yield getattr(each, name, None)
