"""`kvproxy key`: a new API key and the entry that lets it in."""

import re
from hashlib import sha256
from secrets import token_urlsafe

import click

from kvproxy.settings.access import KEY_NAME

_ENTRY = """access:
  keys:
    - name: {name}
      sha256: {digest}
"""
_ADMIN = """      admin: true
"""


@click.command("key")
@click.argument("name")
@click.option("--admin", is_flag=True, help="One for operators: /admin, /metrics, engine commands.")
def key(name: str, *, admin: bool) -> None:
    """Make an API key called NAME.

    The key goes to standard error, once: it is kept nowhere. The entry for the settings file goes
    to standard output.
    """
    if not re.fullmatch(KEY_NAME, name):
        raise click.BadParameter(f"settings take names like {KEY_NAME}", param_hint="NAME")
    made = "kvp-" + token_urlsafe(32)
    click.echo(f"key: {made}", err=True)
    entry = _ENTRY.format(name=name, digest=sha256(made.encode()).hexdigest())
    click.echo(entry + _ADMIN * admin, nl=False)
