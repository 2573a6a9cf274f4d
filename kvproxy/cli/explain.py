"""`kvproxy explain`: why a turn found less of its prefix than it could have."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import click
import msgspec

from kvproxy.cli import admin_key
from kvproxy.core.dialects import BY_NAME
from kvproxy.core.errors import ProxyError
from kvproxy.core.offline import Comparison, compare_bodies

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TIMEOUT_S = 10.0


@click.command()
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--request-id", help="Explain a request that a running proxy has answered.")
@click.option(
    "--url", default="http://127.0.0.1:8080", show_default=True, help="Where that proxy listens."
)
@admin_key.api_key_env
@click.option(
    "--dialect", type=click.Choice(sorted(BY_NAME)), help="Of the files; guessed when not given."
)
@click.option("--show-text", is_flag=True, help="Show texts, not just their lengths.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def explain(
    *,
    files: tuple[Path, ...],
    request_id: str | None,
    url: str,
    api_key_env: str | None,
    dialect: str | None,
    show_text: bool,
    as_json: bool,
) -> None:
    """Say where and why two prompts part.

    With two FILES, request bodies saved one after the other, it says what a replica that answered
    the first would prefill again for the second. With --request-id it asks a running proxy.
    """
    if (len(files) == 2) == bool(request_id):
        raise click.UsageError("give either two files or --request-id")
    if request_id:
        click.echo(_ask(url, request_id, admin_key.headers(api_key_env)))
        return
    before, now = (path.read_bytes() for path in files)
    try:
        found = compare_bodies(before, now, dialect or "", show_text=show_text)
    except (ProxyError, ValueError, msgspec.DecodeError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(_as_json(found), indent=2) if as_json else _as_text(found))


def _ask(url: str, request_id: str, headers: dict[str, str]) -> str:
    """The explanation as indented JSON."""
    target = f"{url.rstrip('/')}/admin/explain?{urllib.parse.urlencode({'request_id': request_id})}"
    try:
        request = urllib.request.Request(target, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.stderr.write(error.read().decode() + "\n")
        raise SystemExit(1) from error
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise click.ClickException(f"{url} does not answer: {why}") from error


def _as_json(found: Comparison) -> dict[str, object]:
    place = found.place._asdict() if found.place else None
    return found._asdict() | {"place": place}


def _as_text(found: Comparison) -> str:
    """A few lines for people; shares are of the second prompt."""
    lines = [
        f"{found.dialect}: {found.cause.replace('_', ' ')}",
        f"prompt              about {found.tokens} tokens",
        f"prefilled again     {_share(found.tokens - found.direct_tokens, found.tokens)}",
    ]
    if found.spliced:
        again = _share(found.tokens - found.healed_tokens, found.tokens)
        lines.append(f"behind kvproxy      {again}, by {', '.join(found.spliced)}")
    if found.place is not None:
        at = f", character {found.character}" if found.character is not None else ""
        lines.append(f"differs at          {found.place.pointer} (byte {found.place.offset}){at}")
    return "\n".join([*lines, *([""] if found.diff else []), *found.diff])


def _share(tokens: int, of: int) -> str:
    return f"{tokens} tokens ({tokens / of if of else 0:.1%})"
