"""Untrusted JSON -> frozen dataclasses, or a refusal that names the key.

A dataclass says what is read: each field by its annotation, bounded by what `Annotated` adds to it.

    @dataclass(frozen=True)
    class Sizes:
        layers: Annotated[int, Between(1, 1000)]
        name: Annotated[str, Matches(r"[a-z]+")] = "none"

    read_record(Sizes, {"layers": 0})  ->  RecordError: layers is 0; allowed: from 1 to 1000

A whole number is a float too, a bool is no number, NaN and infinities are nothing at all, a list may become a
tuple and a string a Path.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

R = TypeVar("R")

LONGEST_TEXT = 4096  # characters of a string without a pattern of its own
MOST_ITEMS = 100_000  # of a list or an object
DEEPEST = 32  # lists and objects inside of one another
SHOWN = 60  # characters of a refused value
KINDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a string",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    NoneType: "null",
}


class RecordError(ValueError):
    """A value is not what its key may hold.

    Args:
        key: Where it was found, like `engines[0].path`; "" for the whole.
        problem: What it is.
        allowed: What would have been accepted.
    """

    def __init__(self, key: str, problem: str, allowed: str) -> None:
        self.key, self.problem, self.allowed = key, problem, allowed
        super().__init__(f"{key or 'it'} {problem}; allowed: {allowed}")


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, or a list of so many items; both included."""

    low: float
    high: float

    def problem(self, value: Any) -> str:
        """What is allowed instead of `value`, or ""."""
        if isinstance(value, int | float):
            return "" if self.low <= value <= self.high else f"from {self.low:g} to {self.high:g}"
        return "" if self.low <= len(value) <= self.high else f"{self.low:g} to {self.high:g} of them"


@dataclass(frozen=True)
class Matches:
    """A string that is `pattern` from end to end; `meaning` is what an error calls it."""

    pattern: str
    meaning: str = ""

    def problem(self, value: str) -> str:
        """What is allowed instead of `value`, or ""."""
        return "" if re.fullmatch(self.pattern, value) else self.meaning or self.pattern


@dataclass(frozen=True)
class Holds:
    """A value of which `test` is true; `meaning` is what an error calls it."""

    test: Callable[[Any], bool]
    meaning: str

    def problem(self, value: Any) -> str:
        """What is allowed instead of `value`, or ""."""
        return "" if self.test(value) else self.meaning


PRINTABLE = Holds(str.isprintable, "printable characters")


def parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RecordError: It is anything else.
    """
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise RecordError("", f"is not JSON ({error})", "a JSON object") from error
    if not isinstance(content, dict):
        raise RecordError("", f"is {_kind(content)}", "a JSON object")
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        level = [item for value in level for item in _items(value)]
    if level:
        raise RecordError("", "is nested too deeply", f"{DEEPEST} levels")
    return content


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def finite(value: Any) -> Any:
    """`value` with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(record: type[R], content: object, key: str = "", *, complete: bool = False) -> R:
    """An instance of the dataclass `record` from what JSON gave.

    Args:
        record: A dataclass; fields with a default may be absent, others and unknown ones may not.
        content: An object of JSON.
        key: Where it was found, for errors.
        complete: Whether fields with a default may not be absent either.

    Raises:
        RecordError: Naming the first key that is missing, unknown, or holds what it may not.
    """
    if not isinstance(content, dict):
        raise RecordError(key, f"is {_kind(content)}", "an object")
    hints = get_type_hints(record, include_extras=True)
    if unknown := sorted(map(str, content.keys() - hints.keys())):
        raise RecordError(_join(key, unknown[0]), "is unknown", ", ".join(hints))
    for field in fields(record):  # type: ignore[arg-type]  # it is a dataclass
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if field.name not in content and (complete or not has_default):
            raise RecordError(_join(key, field.name), "is missing", _name(hints[field.name]))
    read = {name: _read(hints[name], value, _join(key, name), complete) for name, value in content.items()}
    return record(**read)


def _read(kind: Any, value: Any, key: str, complete: bool = False) -> Any:
    """`value` as an annotation wants it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _checked(arguments, value, key, complete)
    if kind is Any:
        return _json(value, key)
    if origin in (Union, UnionType):
        wanted = next((option for option in arguments if _fits(option, value)), arguments[0])
        return _read(wanted, value, key, complete)
    if not _fits(kind, value):
        shown = short(value) if isinstance(value, str | int | float | None) else _kind(value)
        raise RecordError(key, f"is {shown}", _name(kind))
    if isinstance(value, str | list | dict):
        _bound(value, key)
    if origin in (list, tuple):
        items = [_read(arguments[0], item, f"{key}[{number}]", complete) for number, item in enumerate(value)]
        return items if origin is list else tuple(items)
    if origin is dict:
        return {
            _read(arguments[0], name, _join(key, name)): _read(arguments[1], item, _join(key, name), complete)
            for name, item in value.items()
        }
    if isinstance(kind, type) and is_dataclass(kind):
        return read_record(kind, value, key, complete=complete)
    return kind(value) if kind in (float, Path) else value


def _checked(arguments: tuple[Any, ...], value: Any, key: str, complete: bool) -> Any:
    kind, *checks = arguments
    read = _read(kind, value, key, complete)
    for check in checks:
        if allowed := check.problem(read):
            raise RecordError(key, f"is {short(value)}", allowed)
    return read


def _json(value: Any, key: str) -> Any:
    """Any JSON, as it is; of numbers only finite ones, of texts only those of some length."""
    if isinstance(value, dict):
        _bound(value, key)
        for name in value:
            _bound(name, _join(key, name))
        return {name: _json(item, _join(key, name)) for name, item in value.items()}
    if isinstance(value, list):
        _bound(value, key)
        return [_json(item, f"{key}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, str):
        _bound(value, key)
    elif not (value is None or _fits(bool, value) or _fits(float, value)):
        raise RecordError(key, f"is {short(value)}", "finite numbers")
    return value


def _bound(value: Any, key: str) -> None:
    most = LONGEST_TEXT if isinstance(value, str) else MOST_ITEMS
    if len(value) > most:
        raise RecordError(key, f"is {_kind(value)} of {len(value)}", f"at most {most}")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise RecordError(key, f"is {short(value)}", "text, without halves of characters")


def _fits(kind: Any, value: Any) -> bool:
    """Whether `value` is of the kind that an annotation names, whatever is inside of it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _fits(arguments[0], value)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in arguments)
    if kind is float:
        return type(value) in (int, float) and _is_finite(value)
    if origin in (list, tuple):
        return isinstance(value, list)
    if kind is Path:
        return type(value) is str
    return isinstance(value, dict) if origin is dict or is_dataclass(kind) else type(value) is kind


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _name(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _name(arguments[0])
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(_name(option) for option in arguments)
    return KINDS.get(list if origin in (list, tuple) else origin or kind, "an object")


def _kind(value: Any) -> str:
    return KINDS.get(type(value), type(value).__name__)


def short(value: Any) -> str:
    """`value` as an error shows it, of some length at most and with nothing in it that a terminal obeys."""
    try:
        shown = repr(value)
    except ValueError:  # a whole number of too many digits to print
        return "a number of thousands of digits"
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def _join(key: str, name: str) -> str:
    return f"{key}.{short(name)[1:-1]}" if key else short(name)[1:-1]
