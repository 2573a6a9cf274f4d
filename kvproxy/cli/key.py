"""`kvproxy key`: a new API key and the entry that lets it in."""

from hashlib import sha256
from secrets import token_urlsafe

import click

_ENTRY = """access:
  keys:
    - name: {name}
      sha256: {digest}
"""


@click.command("key")
@click.argument("name")
def key(name: str) -> None:
    """Make an API key called NAME.

    The key goes to standard error, once: it is kept nowhere. The entry for the settings file goes
    to standard output.
    """
    made = "kvp-" + token_urlsafe(32)
    click.echo(f"key: {made}", err=True)
    click.echo(_ENTRY.format(name=name, digest=sha256(made.encode()).hexdigest()), nl=False)
