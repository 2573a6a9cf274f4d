"""What is written, in both styles, and what never is."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

import pytest

from kvproxy.core.access import Access, Key
from kvproxy.ops.logs import JsonFormatter, TextFormatter, access, log_access, set_up
from tests.support.fake_ports import World, stream

USAGE = {
    "prompt_tokens": 900,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 0},
}


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """The package's logger, put back as it was."""
    root = logging.getLogger("kvproxy")
    before = (list(root.handlers), root.level, root.propagate)
    yield root
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("kvproxy.x", logging.WARNING, "", 0, message, args, None)
    for name, value in extra.items():
        setattr(made, name, value)
    return made


def test_json_lines() -> None:
    line = json.loads(JsonFormatter().format(record("a %s", "b\n", fields={"status": 200})))
    assert line.pop("ts").endswith("+00:00")
    assert line == {"level": "warning", "logger": "kvproxy.x", "message": "a b\n", "status": 200}


def test_json_lines_with_an_exception() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        made = logging.LogRecord("x", logging.ERROR, "", 0, "m", None, sys.exc_info())
    text = JsonFormatter().format(made)
    assert "ValueError: broken" in json.loads(text)["exception"]
    assert "\n" not in text


def test_text_lines() -> None:
    line = TextFormatter().format(record("request", fields={"status": 200, "cached": None}))
    assert line.endswith("W kvproxy.x: request status=200")


@pytest.mark.parametrize(
    ("style", "terminal", "formatter"),
    [
        ("text", False, TextFormatter),
        ("json", True, JsonFormatter),
        ("auto", True, TextFormatter),
        ("auto", False, JsonFormatter),
    ],
)
def test_the_style_fits_who_reads(
    style: str,
    terminal: bool,
    formatter: type,
    monkeypatch: pytest.MonkeyPatch,
    logger: logging.Logger,
) -> None:
    error_output = io.StringIO()
    error_output.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", error_output)
    set_up("debug", style)
    set_up("warning", style)
    assert logger.level == logging.WARNING
    assert [type(handler.formatter) for handler in logger.handlers] == [formatter]
    logging.getLogger("kvproxy.some").warning("once")
    logging.getLogger("kvproxy.some").info("never")
    assert error_output.getvalue().count("once") == 1
    assert "never" not in error_output.getvalue()


async def access_line(world: World, raw: bytes, **given: object) -> dict[str, object]:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(JsonFormatter())
    access.addHandler(handler)
    level = access.level
    access.setLevel(logging.INFO)
    try:
        await world.proxy.handle(world.exchange(raw, **given))
        log_access(world.records[-1])
    finally:
        access.removeHandler(handler)
        access.setLevel(level)
    (line,) = output.getvalue().splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


async def test_one_line_a_request() -> None:
    world = World(stream("a", usage=USAGE), replicas=1)
    raw = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
    line = await access_line(world, raw)
    assert line["request_id"] == "id-1"
    assert (line["method"], line["path"]) == ("POST", "/v1/chat/completions")
    assert (line["status"], line["outcome"], line["attempts"]) == (200, "ok", 1)
    assert (line["replica"], line["evidence"]) == ("r0", "none")
    assert (line["prompt_tokens"], line["predicted_cached"], line["cached"]) == (900, 0, 0)
    assert isinstance(line["ttft_s"], float)


async def test_whose_request_it_was() -> None:
    """By the name of the key, which its settings gave it."""
    world = World(stream("a", usage=USAGE), replicas=1)
    key = Key("team-a", sha256(b"secret").hexdigest(), "team")
    world.proxy = replace(world.proxy, access=Access([key]))
    raw = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
    header = {"content-type": "application/json", "authorization": "Bearer secret"}
    assert (await access_line(world, raw, header=header))["key"] == "team-a"


async def test_requests_that_are_no_prompt() -> None:
    line = await access_line(World([b"{}"], replicas=1), b"", method="GET", path="/v1/other")
    assert (line["path"], line["status"], line["prompt_tokens"]) == ("/v1/other", 200, None)


async def test_neither_prompts_nor_secrets_nor_sessions() -> None:
    header = {
        "content-type": "application/json",
        "authorization": "Bearer secret",
        "session-id": "secret",
    }
    raw = b'{"model":"m","messages":[{"role":"user","content":"secret"}]}'
    world = World(stream("secret", usage=USAGE), replicas=1)
    assert "secret" not in json.dumps(await access_line(world, raw, header=header))


async def test_nothing_is_made_of_lines_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    world = World([b"{}"], replicas=1)
    await world.proxy.handle(world.exchange(b"", method="GET", path="/x"))
    with caplog.at_level(logging.WARNING, "kvproxy.access"):
        log_access(world.records[0])
    assert caplog.records == []
