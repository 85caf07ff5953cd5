"""Operations that are written once, as coroutines, and called in both ways."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

from longhand.api import Api
from longhand.transport import Awaiting, Blocking, Call, Transport, iterate, run

P = ParamSpec("P")
T = TypeVar("T")
TransportT = TypeVar("TransportT", bound=Transport)


class Resource(Generic[TransportT]):
    """Operations on one kind of thing."""

    def __init__(self, api: Api, transport: TransportT) -> None:
        self._api, self._transport = api, transport


class operation(Generic[P, T]):
    """A coroutine method, which the blocking client runs to its end."""

    def __init__(self, method: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Resource[Blocking], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Resource[Awaiting], owner: type) -> Callable[P, Call[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self

        @wraps(self._method)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            called = self._method(instance, *args, **kwargs)
            return run(called) if isinstance(instance._transport, Blocking) else called

        return call


class stream(Generic[P, T]):
    """An asynchronous generator method, whose items the blocking client gives one by one."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Resource[Blocking], owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Resource[Awaiting], owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self

        @wraps(self._method)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            items = cast(AsyncGenerator[T, None], self._method(instance, *args, **kwargs))
            return iterate(items) if isinstance(instance._transport, Blocking) else items

        return call
