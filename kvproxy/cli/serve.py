"""`kvproxy serve`: settings from flags, environment and file, then the server."""

import gc
import importlib
import os
import sys
from pathlib import Path

import click

from kvproxy.cli.settings_file import load_or_exit
from kvproxy.settings.load import load
from kvproxy.settings.options import SettingsCommand, flags_of, settings_options
from kvproxy.settings.render import effective_yaml

_FILE = click.Path(dir_okay=False, path_type=Path)
_NO_ENGINE = """
With engines:     kvproxy serve --replica http://gpu-1:8000 --replica http://gpu-2:8000
Without any:      kvproxy emulate --replicas 2 &
                  kvproxy serve --replica http://127.0.0.1:8001 --replica http://127.0.0.1:8002
To see its worth: kvproxy demo"""


@click.command(cls=SettingsCommand, params=[*settings_options()])
@click.option(
    "--print-config", is_flag=True, help="Print the settings in force, secrets masked, and exit."
)
@click.option(
    "--config",
    type=_FILE,
    envvar="KVPROXY_CONFIG",
    help="Settings file (YAML); also KVPROXY_CONFIG.",
)
@click.pass_context
def serve(context: click.Context, /, config: Path | None, print_config: bool, **_: object) -> None:
    """Run the proxy.

    Settings come from defaults, then --config, then KVPROXY_SECTION__KEY, then flags.
    `--replica URL` is enough to start.
    """
    loaded = load_or_exit(config, flags_of(context), no_replica=_NO_ENGINE)
    if print_config:
        click.echo(effective_yaml(loaded), nl=False)
        return
    # The server's imports take their time; --help and --print-config do without them.
    several = loaded.settings.server.workers > 1
    app = importlib.import_module("kvproxy.workers.supervise" if several else "kvproxy.process")
    flags = flags_of(context)
    importlib.import_module("kvproxy.ops.allocator").settle()
    # What was imported stays, and requests make next to nothing that refers to itself: the default
    # thresholds would have the collector look again and again at what lives on.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    sys.exit(app.run(loaded.settings, lambda: load(config, os.environ, flags).settings))
