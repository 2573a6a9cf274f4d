"""What is secret stays where it belongs: greps of all that kvproxy says."""

import json
import logging
from hashlib import sha256

import orjson
import pytest

from kvproxy.settings.load import load
from kvproxy.settings.render import effective_yaml
from tests.support.proxies import proxied, settled
from tests.support.recording import Mark, answer, recording
from tests.support.wire import WireAnswer, ask, post, request

KEY, UPSTREAM, PROMPT, ANSWER = (f"secret-{name}-4711" for name in ("key", "up", "prompt", "said"))
SECRETS = (KEY, UPSTREAM, PROMPT, ANSWER)
PATHS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": PROMPT}]},
    "/v1/completions": {"prompt": PROMPT},
    "/v1/messages": {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1},
    "/v1/responses": {"input": PROMPT},
    "/v1/embeddings": {"input": PROMPT},
}


async def asked(url: str) -> list[WireAnswer]:
    """Every dialect, and bodies and keys that are wrong in every way."""
    found = []
    for path, fields in PATHS.items():
        for body in (
            orjson.dumps({"model": "m"} | fields),
            orjson.dumps({"model": PROMPT} | fields),
            orjson.dumps({"model": "m"} | fields)[:-1],
            f'"{PROMPT}"'.encode(),
        ):
            found += [
                await ask(url, post(body, path, x_api_key=given)) for given in (KEY, f"wrong-{KEY}")
            ]
    return found


async def test_neither_logs_nor_metrics_nor_errors_tell(caplog: pytest.LogCaptureFixture) -> None:
    keys = [{"name": "k", "sha256": sha256(KEY.encode()).hexdigest(), "admin": True}]
    said = answer(orjson.dumps({"text": ANSWER}))
    caplog.set_level(logging.DEBUG)
    async with (
        recording(2) as replicas,
        proxied(
            [replica.url for replica in replicas],
            access={"keys": keys},
            upstream={"api_key": UPSTREAM},
            log={"access": True, "level": "debug"},
        ) as (app, url),
    ):
        errors: list[WireAnswer] = []
        for script in (said, [Mark.CUT], answer(b"{}", status="500 No")):
            for replica in replicas:
                replica.script = lambda received, script=script: script  # type: ignore[misc]
            errors += [got for got in await asked(url) if got.status >= 400]
        pages = [
            (await ask(url, request("GET", page, [("x-api-key", KEY)]))).body
            for page in ("/metrics", "/readyz", "/admin/replicas", "/admin/regime")
        ]
        await settled(app)
    assert errors
    assert all(page for page in pages)
    logged = json.dumps([[r.getMessage(), str(vars(r))] for r in caplog.records if _ours(r)])
    told = [*(got.body.decode() for got in errors), *(page.decode() for page in pages), logged]
    for secret in SECRETS:
        # A model that does not exist is named to the client that named it, and to nobody else.
        where = (
            told if secret != PROMPT else [each for each in told if "does not exist" not in each]
        )
        assert not any(secret in each for each in where), secret


def _ours(record: logging.LogRecord) -> bool:
    return record.name.startswith("kvproxy")


def test_settings_are_printed_without_them() -> None:
    env = {
        "KVPROXY_REPLICAS": '["http://a:1"]',
        "KVPROXY_UPSTREAM__API_KEY": UPSTREAM,
    }
    loaded = load(None, env)
    assert UPSTREAM not in effective_yaml(loaded)
    assert UPSTREAM not in repr(loaded.settings)
