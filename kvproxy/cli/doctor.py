"""`kvproxy doctor`: what is wrong with the replicas, with evidence and the exact mend."""

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kvproxy.adapters.http1.tls import TlsError
from kvproxy.admin.doctor.diagnose import diagnose
from kvproxy.admin.doctor.examine import Order, examine
from kvproxy.admin.doctor.finding import exit_code
from kvproxy.admin.doctor.report import as_json, as_text
from kvproxy.certificates import Certificates
from kvproxy.cli.settings_file import load_or_exit
from kvproxy.core.model_kv import KvShape, ModelConfigError, kv_shape
from kvproxy.settings.load import Flags
from kvproxy.settings.model import Settings

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--replica", "replicas", multiple=True, metavar="URL", help="A replica; repeatable.")
@click.option("--config", type=_FILE, help="Take replicas and LMCache from a settings file.")
@click.option("--probe", is_flag=True, help="Send one prompt twice to each replica; costs tokens.")
@click.option(
    "--lmcache-coordinator", default="", metavar="URL", help="`lmcache coordinator`, its HTTP port."
)
@click.option(
    "--lmcache",
    "servers",
    multiple=True,
    metavar="URL",
    help="An LMCache's own HTTP: a server's, or the internal API of one inside vLLM; repeatable.",
)
@click.option("--model-config", type=_FILE, help="The model's config.json: sizes of KV in tokens.")
@click.option("--tensor-parallel", type=int, help="Ranks of each engine, where none tells.")
@click.option("--api-key-env", metavar="NAME", help="Variable with the replicas' API key.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds for one answer.")
@click.option("--json", "json_", is_flag=True, help="Write JSON to standard output.")
def doctor(*, probe: bool, json_: bool, **given: Any) -> None:
    """Say what keeps replicas from using their caches, and how to mend it.

    Reads their pages; nothing is changed. Exit code 0: notes at most; 1: warnings; 3: errors.
    """
    settings = _settings(given)
    order = _order(settings, given, probing=probe)
    fleet = asyncio.run(examine(order, lambda text: click.echo(f"… {text}", err=True)))
    findings = diagnose(fleet)
    if json_:
        click.echo(json.dumps(as_json(fleet, findings), indent=2))
    else:
        click.echo(as_text(fleet, findings, probed=probe))
    raise SystemExit(exit_code(findings))


def _settings(given: Mapping[str, Any]) -> Settings:
    if not given["replicas"] and given["config"] is None:
        raise click.UsageError("give --replica URL, or --config FILE with replicas in it")
    named = list(given["replicas"])
    flags: Flags = {("replicas",): ("--replica", named)} if named else {}
    settings = load_or_exit(given["config"], flags).settings
    if not settings.replicas:
        raise click.UsageError(
            f"{given['config']} has its replicas discovered: name those to look at by --replica "
            "URL; GET /admin/replicas of the proxy lists them"
        )
    return settings


def _order(settings: Settings, given: Mapping[str, Any], *, probing: bool) -> Order:
    keys = {}
    variable = given["api_key_env"]
    if variable is not None and not os.environ.get(variable):
        raise click.UsageError(f"--api-key-env: the variable {variable} is not set")
    for replica in settings.replicas:
        secret = replica.api_key or settings.upstream.api_key
        if variable is not None:
            keys[replica.url] = os.environ[variable]
        elif secret is not None:
            keys[replica.url] = secret.get_secret_value()
    return Order(
        {replica.url: replica.id for replica in settings.replicas},
        keys,
        (given["lmcache_coordinator"] or settings.lmcache.coordinator_url).rstrip("/"),
        [url.rstrip("/") for url in given["servers"]],
        probing=probing,
        timeout_s=given["timeout"],
        keepalive_s=settings.upstream.keepalive_s,
        billing_dropped=settings.canonical.enabled and settings.canonical.billing_line,
        token_bytes=_token_bytes(given["model_config"]),
        tensor_parallel=given["tensor_parallel"],
        tls=_tls(settings) if any(r.url.startswith("https") for r in settings.replicas) else None,
    )


def _tls(settings: Settings) -> ssl.SSLContext:
    """As `serve` meets them: a certificate that it would refuse is found, no other."""
    try:
        return Certificates(settings).upstream
    except TlsError as error:
        raise click.ClickException(str(error)) from error


def _token_bytes(file: Path | None) -> float | None:
    if file is None:
        return None
    try:
        shape: KvShape = kv_shape(json.loads(file.read_bytes()))
    except (OSError, ValueError, ModelConfigError) as error:
        raise click.UsageError(f"--model-config: {error}") from error
    return shape.token_bytes(None)
