"""Loading settings for a command: mistakes end it with one line each and exit code 2."""

import os
from pathlib import Path

import click

from kvproxy.settings.errors import SettingsError
from kvproxy.settings.load import Flags, Loaded, load


class SettingsFailure(click.ClickException):
    """Exit code 2, as for a wrong flag: nothing was started."""

    exit_code = 2


def load_or_exit(file: Path | None, flags: Flags | None = None) -> Loaded:
    try:
        return load(file, os.environ, flags)
    except SettingsError as error:
        raise SettingsFailure(str(error)) from None
