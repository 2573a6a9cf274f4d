"""Command line options made from the settings model, and the layer that they give."""

from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

from kvproxy.settings.model import Settings
from kvproxy.settings.render import yaml_value
from kvproxy.settings.source import flag_names, has_flag
from kvproxy.settings.tree import Leaf, leaves

# A secret on a command line can be read by every user of the machine.
# A list of groups has none either, but for replicas, of which a URL is enough.
FLAG_LEAVES = tuple(leaf for leaf in leaves(Settings) if has_flag(leaf))


def settings_options() -> list[click.Option]:
    """One option a key. Values are left as text: validation is the model's."""
    return [_option(leaf) for leaf in FLAG_LEAVES]


def flags_of(context: click.Context) -> dict[tuple[str, ...], tuple[str, Any]]:
    """What was given on the command line, as path -> (flag, value)."""
    given = {}
    for leaf in FLAG_LEAVES:
        name = _parameter(leaf)
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            given[leaf.path] = (flag_names(leaf.path)[-1], context.params[name])
    return given


class SettingsCommand(click.Command):
    """A command whose help shows options by section of the settings, its own ones first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {_parameter(leaf): leaf.path[0] for leaf in FLAG_LEAVES}
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = sections.get(parameter.name or "", "Options")
                rows.setdefault(section, []).append(record)
        for section in ("Options", *(name for name in rows if name != "Options")):
            with formatter.section(section):
                formatter.write_dl(rows[section])


def _option(leaf: Leaf) -> click.Option:
    flags = flag_names(leaf.path)
    common: dict[str, Any] = {"help": _help(leaf), "default": None}
    if leaf.is_switch:
        flags = [f"{flag}/--no-{flag.removeprefix('--')}" for flag in flags]
    elif leaf.choices:
        common["type"] = click.Choice(leaf.choices)
    else:
        common["metavar"] = _metavar(leaf)
        common["multiple"] = leaf.is_list
    return click.Option([*flags, _parameter(leaf)], **common)


def _parameter(leaf: Leaf) -> str:
    return "__".join(leaf.path)


def _metavar(leaf: Leaf) -> str:
    if leaf.path == ("replicas",):
        return "URL"
    last = leaf.path[-1]
    for suffix, metavar in _METAVARS.items():
        if last.endswith(suffix):
            return metavar
    return "TEXT" if leaf.field.annotation is str or leaf.is_list else "NUMBER"


_METAVARS: Mapping[str, str] = {"_bytes": "BYTES", "_tok_s": "NUMBER", "_s": "SECONDS"}


def _help(leaf: Leaf) -> str:
    return "  ".join(_help_parts(leaf))


def _help_parts(leaf: Leaf) -> Iterator[str]:
    yield leaf.field.description or ""
    if leaf.is_list:
        yield "May be repeated."
    if not leaf.field.is_required() and leaf.field.default not in (None, ""):
        yield f"[default: {yaml_value(leaf.field.default)}]"
