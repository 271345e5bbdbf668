"""JSON to and from the dataclasses of `models`, checked where it arrives.

Unknown fields are ignored, so that a newer peer may say more; a missing or ill-typed one is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import orjson

_Decoder = Callable[[Any, str], Any]


class DecodeError(ValueError):
    """The input is not what was expected. The message names the field and is fit to be shown."""


def encode(value: object) -> bytes:
    """Return a dataclass as JSON."""
    return orjson.dumps(value)


def decode[T](kind: type[T], payload: bytes | str) -> T:
    """Return the JSON text as an instance of `kind`.

    Raises:
        DecodeError: it is not JSON, or does not have the fields of `kind`.

    """
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError as err:
        raise DecodeError(f"not JSON: {err}") from None
    return from_plain(kind, value)


def from_plain[T](kind: type[T], value: object) -> T:
    """Return parsed JSON as an instance of `kind`. Raises DecodeError."""
    decoded: T = _decoder(cast("Hashable", kind))(value, "")
    return decoded


def _fail(where: str, expected: str) -> DecodeError:
    return DecodeError(f"{where or 'the message'} is not {expected}")


@cache
def _decoder(hint: Hashable) -> _Decoder:
    """Return the function that checks and converts a value for a type hint."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _optional(args)
    if origin is Literal:
        return _literal(args)
    if origin is tuple:
        return _tuple(_decoder(args[0]))
    if origin is dict:
        return _mapping(_decoder(args[1]))
    if is_dataclass(hint) and isinstance(hint, type):
        return _record(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enumeration(hint)
    return _SCALARS[hint]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _fail(where, "a text")
    return value


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _fail(where, "a whole number")
    return value


def _number(value: Any, where: str) -> float:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
    ):
        raise _fail(where, "a number")
    return float(value)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _fail(where, "true or false")
    return value


_SCALARS: dict[Any, _Decoder] = {str: _text, int: _whole, float: _number, bool: _flag}


def _optional(args: tuple[Any, ...]) -> _Decoder:
    if len(args) != 2 or NoneType not in args:
        raise TypeError(f"only X | None can be decoded, not {args}")
    inner = _decoder(next(arg for arg in args if arg is not NoneType))
    return lambda value, where: None if value is None else inner(value, where)


def _literal(allowed: tuple[Any, ...]) -> _Decoder:
    def decode_literal(value: Any, where: str) -> Any:
        if value not in allowed:
            raise _fail(where, f"one of {', '.join(map(repr, allowed))}")
        return value

    return decode_literal


def _enumeration(kind: type[StrEnum]) -> _Decoder:
    def decode_member(value: Any, where: str) -> StrEnum:
        try:
            return kind(value)
        except ValueError:
            raise _fail(where, f"one of {', '.join(kind)}") from None

    return decode_member


def _tuple(inner: _Decoder) -> _Decoder:
    def decode_tuple(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _fail(where, "a list")
        return tuple(
            inner(part, f"{where}[{index}]") for index, part in enumerate(value)
        )

    return decode_tuple


def _mapping(inner: _Decoder) -> _Decoder:
    def decode_mapping(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _fail(where, "an object")
        return {key: inner(part, f"{where}.{key}") for key, part in value.items()}

    return decode_mapping


def _record(kind: type[Any]) -> _Decoder:
    hints = get_type_hints(kind)
    plan = [(field.name, _decoder(hints[field.name])) for field in fields(kind)]
    required = {
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    }

    def decode_record(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise _fail(where, "an object")
        known: dict[str, Any] = {}
        for name, inner in plan:
            path = f"{where}.{name}" if where else name
            if name in value:
                known[name] = inner(value[name], path)
            elif name in required:
                raise DecodeError(f"{path} is missing")
        return kind(**known)

    return decode_record
