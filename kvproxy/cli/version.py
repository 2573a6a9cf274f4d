"""`kvproxy version`: what to put into a bug report."""

import json
import platform
from importlib import metadata

import click

_NAMED = ("aiohttp", "uvloop", "pydantic", "xxhash", "orjson", "msgspec", "pyzmq")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with the libraries' versions.")
def version(as_json: bool) -> None:
    """Show versions."""
    kvproxy = metadata.version("kvproxy")
    python = platform.python_version()
    if as_json:
        libraries = {name: metadata.version(name) for name in _NAMED}
        click.echo(json.dumps({"kvproxy": kvproxy, "python": python, "libraries": libraries}))
    else:
        click.echo(f"kvproxy {kvproxy} (Python {python} on {platform.system()})")
