"""`biz.do`: every write inside is one transaction."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

import orjson

from . import values
from .errors import Conflict, InvalidValue
from .unit import UnitOfWork

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Do"]


def _backoff(attempt: int) -> float:
    """Seconds until a Conflict is tried again, at random, so that two don't meet for ever."""
    return random.random() * min(0.1, 0.001 * 2**attempt)


class _Block(AbstractContextManager, AbstractAsyncContextManager):
    """One `with biz.do():`; inside another it joins it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unit: UnitOfWork | None = None
        self._token: Any = None

    def __enter__(self) -> None:
        if self._store.unit() is None:
            self._unit = UnitOfWork(self._store.log)
            self._token = self._unit.enter()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        unit = self._unit
        if unit is None:
            return
        unit.leave(self._token)
        if kind is not None:
            unit.discard()
            return
        try:
            self._store.writer.written(len(unit.commit()))
        except BaseException:
            unit.discard()
            raise

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.__exit__(kind, error, trace)


class Do:
    """All or nothing, visible to others at the end only.

    `with biz.do():`, `async with biz.do():`, `biz.do.run(fn, key=, retries=)`, `biz.do(fn, key=)`, `@biz.do`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """A block; with a function and key= or retries=, `run`; bare, a decorator of the function."""
        if function is None:
            if options:
                return lambda given: self._decorated(given, options)
            return _Block(self._store)
        if options:
            return self.run(function, **options)
        return self._decorated(function, {})

    def _decorated(self, function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
        if not callable(function):
            raise InvalidValue(f"biz.do takes a function, not {function!r}")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def asynchronous(*given: Any, **keywords: Any) -> Any:
                return await self.run(lambda: function(*given, **keywords), _async=True, **options)

            return asynchronous

        @functools.wraps(function)
        def synchronous(*given: Any, **keywords: Any) -> Any:
            return self.run(lambda: function(*given, **keywords), **options)

        return synchronous

    def run(
        self, function: Callable[[], Any], *, key: str | None = None, retries: int = 3, _async: bool = False
    ) -> Any:
        """Run a function as one transaction.

        Args:
            function: takes nothing; may be a coroutine function, then the call is to be awaited.
            key: runs it once for ever: the stored result is returned again. State space "done".
            retries: how often a Conflict is retried.
        Returns:
            what the function returned; of a known key, what it returned then (as JSON keeps it).
        Raises:
            Conflict: after the last retry. InvalidValue: with a key, a result that can't be stored.
        """
        if not callable(function):
            raise InvalidValue(f"biz.do.run takes a function, not {function!r}")
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise InvalidValue(f"retries= is a whole number of at least 0, not {retries!r}")
        if key is not None and (not isinstance(key, str) or not key.strip()):
            raise InvalidValue(f"key= is text that is not blank, not {key!r}")
        if _async or inspect.iscoroutinefunction(function):
            return self._run_async(function, key, retries)
        if self._store.unit() is not None:
            return self._once(function, key)
        attempt = 0
        while True:
            try:
                with _Block(self._store):
                    return self._once(function, key)
            except Conflict:
                attempt += 1
                if attempt > retries + self._is_done(key):
                    raise
                time.sleep(_backoff(attempt))

    def _once(self, function: Callable[[], Any], key: str | None) -> Any:
        found, kept = self._kept(key)
        if found:
            return kept
        return self._keep(key, function())

    async def _run_async(self, function: Callable[[], Any], key: str | None, retries: int) -> Any:
        async def once() -> Any:
            found, kept = self._kept(key)
            if found:
                return kept
            result = function()
            return self._keep(key, await result if inspect.isawaitable(result) else result)

        if self._store.unit() is not None:
            return await once()
        attempt = 0
        while True:
            try:
                async with _Block(self._store):
                    return await once()
            except Conflict:
                attempt += 1
                if attempt > retries + self._is_done(key):
                    raise
                await asyncio.sleep(_backoff(attempt))

    def _is_done(self, key: str | None) -> bool:
        """Whether another one ran it in the meantime: the next attempt gives the stored result."""
        return key is not None and self._store.log.get("done", key) is not None

    def _kept(self, key: str | None) -> tuple[bool, Any]:
        if key is None:
            return False, None
        unit = self._store.unit()
        assert unit is not None
        kept = unit.get("done", key)
        return (False, None) if kept is None else (True, orjson.loads(kept))

    def _keep(self, key: str | None, result: Any) -> Any:
        if key is not None:
            unit = self._store.unit()
            assert unit is not None
            data = getattr(result, "data", result) if hasattr(result, "_pending") else result
            unit.put("done", key, orjson.dumps(values.plain(data, self._store.tz, "the result")))
        return result
