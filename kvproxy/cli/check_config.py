"""`kvproxy check-config`: what `serve` would say about a file, without starting anything."""

from pathlib import Path

import click

from kvproxy.adapters.http1.tls import TlsError
from kvproxy.certificates import Certificates
from kvproxy.cli.settings_file import SettingsFailure, load_or_exit
from kvproxy.settings.cautions import cautions


@click.command("check-config")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def check_config(file: Path) -> None:
    """Check FILE as `kvproxy serve --config FILE` would read it, environment included.

    Exit code 0 when it can be used; 2 with one line for every mistake otherwise.
    """
    settings = load_or_exit(file).settings
    try:
        Certificates(settings)
    except TlsError as error:
        raise SettingsFailure(f"{file}: {error}") from error
    for caution in cautions(settings):
        click.echo(f"{file}: note: {caution}", err=True)
    count = len(settings.replicas)
    replicas = "1 replica" if count == 1 else f"{count} replicas"
    click.echo(f"{file}: ok, {replicas}, policy {settings.policy.name}")
