"""The option --preset-file: what `kvproxy calibrate` measured becomes the defaults of a command."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from kvproxy.core.tier_costs import TierCosts

_META = "loadgen.preset_file"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
Command = TypeVar("Command", bound=Callable[..., Any])


def preset_file(command: Command) -> Command:
    """Options named like a field of TierCosts take its value, unless they are given themselves."""
    option = click.option(
        "--preset-file",
        type=_FILE,
        is_eager=True,
        expose_value=False,
        callback=_use,
        help="Rates and cache size as `kvproxy calibrate --json` wrote them; flags win.",
    )
    return option(command)


def costs_of(ctx: click.Context) -> TierCosts | None:
    """What the file said; None without one."""
    found = ctx.meta.get(_META)
    assert found is None or isinstance(found, TierCosts)
    return found


def _use(ctx: click.Context, param: click.Parameter, file: Path | None) -> None:
    if file is None:
        return
    try:
        costs = TierCosts.from_json(json.loads(file.read_text()))
    except ValueError as error:
        raise click.BadParameter(f"{file}: {error}", ctx, param) from error
    ctx.meta[_META] = costs
    ctx.default_map = {**(ctx.default_map or {}), **asdict(costs)}
