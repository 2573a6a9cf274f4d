"""Loading settings for a command: mistakes end it with one line each and exit code 2."""

import os
from pathlib import Path

import click

from kvproxy.settings.errors import NO_REPLICA, SettingsError
from kvproxy.settings.load import Flags, Loaded, load


class SettingsFailure(click.ClickException):
    """Exit code 2, as for a wrong flag: nothing was started."""

    exit_code = 2


def load_or_exit(file: Path | None, flags: Flags | None = None, *, no_replica: str = "") -> Loaded:
    """`no_replica` is what to say beside it where nothing is wrong but that none is named."""
    try:
        return load(file, os.environ, flags)
    except SettingsError as error:
        told = str(error)
        raise SettingsFailure(told + no_replica * told.endswith(NO_REPLICA)) from None
