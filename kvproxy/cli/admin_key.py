"""The admin key of commands that ask a running proxy: from a variable, never an argument, which
everybody on the machine could read.
"""

import os
from collections.abc import Callable
from typing import Any

import click

api_key_env: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--api-key-env", metavar="NAME", help="Variable with an admin key."
)


def headers(variable: str | None) -> dict[str, str]:
    """What to send; raises UsageError where `variable` is named and not set."""
    if variable is None:
        return {}
    key = os.environ.get(variable)
    if not key:
        raise click.UsageError(f"--api-key-env: the variable {variable} is not set")
    return {"authorization": f"Bearer {key}"}
