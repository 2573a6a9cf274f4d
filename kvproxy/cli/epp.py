"""`kvproxy epp`: decides where requests go, for an Envoy that carries them."""

import importlib
import os
import sys
from pathlib import Path

import click

from kvproxy.cli.settings_file import load_or_exit
from kvproxy.settings.load import load
from kvproxy.settings.options import SettingsCommand, flags_of, settings_options

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=SettingsCommand, params=[*settings_options()])
@click.option(
    "--config",
    type=_FILE,
    envvar="KVPROXY_CONFIG",
    help="Settings file (YAML); also KVPROXY_CONFIG.",
)
@click.pass_context
def epp(context: click.Context, /, config: Path | None, **_: object) -> None:
    """Run the endpoint picker of an Envoy gateway.

    Envoy asks on epp.port and sends requests to replicas itself. Settings are those of `serve`,
    which goes on beside it on server.port: for /metrics, health and whoever does without Envoy.
    """
    flags = flags_of(context)
    loaded = load_or_exit(config, flags)
    try:
        # Envoy's protocol is an extra, which `serve` does without.
        picker = importlib.import_module("kvproxy.picker")
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the picker needs the package `{error.name}`: pip install 'kvproxy[epp]'"
        ) from None
    sys.exit(picker.run(loaded.settings, lambda: load(config, os.environ, flags).settings))
