"""Option types of the command line: human counts and durations."""

from collections.abc import Callable
from typing import Generic, TypeVar

import click

from kvproxy.core.units import parse_count, parse_duration

T = TypeVar("T")


class Human(click.ParamType[T], Generic[T]):
    """Text as people write it, e.g. 128k or 10m; an error says what is accepted."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse: Callable[[str], T] = parse

    def convert(
        self, value: str | T, param: click.Parameter | None, ctx: click.Context | None
    ) -> T:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


COUNT = Human("count", parse_count)
DURATION = Human("duration", parse_duration)
