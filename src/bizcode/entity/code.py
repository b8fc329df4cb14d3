"""What a definition's functions are, as a hash: a snapshot of other code is void."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

__all__ = ["fingerprint"]

_PLAIN = (str, bytes, int, float, complex, type(None), type(...))


def fingerprint(value: Any) -> str:
    """The same in every process for the same code: of functions, of what they call in their own package and of
    the plain values that they use. Another version of Python may give another."""
    digest = hashlib.blake2b(digest_size=12)
    for part in _parts(value, set()):
        digest.update(part.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()


def _parts(value: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(value, _PLAIN):
        yield repr(value)
    elif isinstance(value, types.CodeType):
        yield value.co_code.hex()
        for part in (value.co_names, value.co_varnames, value.co_freevars, value.co_consts):
            yield from _parts(part, seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _parts(value.__func__, seen)
    elif isinstance(value, property):
        yield from _parts((value.fget, value.fset), seen)
    elif isinstance(value, partial):
        yield from _parts((value.func, value.args, value.keywords), seen)
    elif isinstance(value, (set, frozenset)):
        # Their order differs from one process to the next.
        yield from sorted("/".join(_parts(item, seen)) for item in value)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            if key not in ("__doc__", "__dict__", "__weakref__", "__module__", "__annotations__"):
                yield str(key)
                yield from _parts(value[key], seen)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _parts(item, seen)
    elif isinstance(value, type):
        yield value.__qualname__
    else:
        yield type(value).__qualname__


def _function(function: types.FunctionType, seen: set[int]) -> Iterator[str]:
    if id(function) in seen:
        return
    seen.add(id(function))
    yield from _parts(function.__code__, seen)
    yield from _parts((function.__defaults__, function.__kwdefaults__), seen)
    for cell in function.__closure__ or ():
        try:
            yield from _parts(cell.cell_contents, seen)
        except ValueError:  # a cell that is filled later
            yield "empty"
    home = function.__module__.partition(".")[0] if function.__module__ else None
    for name in sorted(_names(function.__code__)):
        used = function.__globals__.get(name)
        same = isinstance(used, types.FunctionType) and (used.__module__ or "").partition(".")[0] == home
        if same or isinstance(used, (str, bytes, int, float, tuple, frozenset)):
            yield name
            yield from _parts(used, seen)


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for item in code.co_consts:
        if isinstance(item, types.CodeType):
            found |= _names(item)
    return found
