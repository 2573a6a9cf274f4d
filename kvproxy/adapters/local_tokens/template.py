"""A model's chat template, rendered with the names and filters that templates are written for."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kvproxy.adapters.local_tokens.conversation import Conversation, UnlikeError, conversation

# Templates that go through the parts of a message's content are given parts.
_PARTS = re.compile(r"for\s+\w+\s+in\s+\w+(?:\.content|\[['\"]content['\"]\])")
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class ChatTemplate:
    """From a model's folder. Raises OSError, ValueError, TemplateError for what is none."""

    def __init__(self, folder: Path) -> None:
        self._config = _config(folder)
        texts = _texts(folder, self._config)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        self._parts = {name: _PARTS.search(text) is not None for name, text in texts.items()}
        self._knows_developer = {name: "developer" in text for name, text in texts.items()}
        self._templates = {name: environment.from_string(text) for name, text in texts.items()}

    def render(self, body: dict[str, Any]) -> str:
        """Raises UnlikeError for what the engine might render otherwise."""
        name = "tool_use" if body.get("tools") and "tool_use" in self._templates else "default"
        asked = conversation(body, parts=self._parts[name])
        if not self._knows_developer[name]:
            _system_for_developer(asked)
        named = {token: _token(self._config[token]) for token in _TOKENS if self._config.get(token)}
        try:
            return self._templates[name].render(
                messages=asked.messages, tools=asked.tools, **named | asked.extra
            )
        except (TemplateError, SecurityError, TypeError, ValueError) as error:
            raise UnlikeError(f"the template does not render it: {error}") from error


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not an object")
    return config


def _texts(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    path = folder / "chat_template.jinja"
    given = path.read_text("utf-8") if path.exists() else config.get("chat_template")
    if isinstance(given, list):
        given = {each["name"]: each["template"] for each in given}
    texts = {"default": given} if isinstance(given, str) else given
    if not texts or "default" not in texts:
        raise ValueError(f"{folder} has no chat template")
    return dict(texts)


def _system_for_developer(asked: Conversation) -> None:
    """As the engine does for templates that do not know the role."""
    if any(message["role"] == "developer" for message in asked.messages):
        if any(message["role"] == "system" for message in asked.messages):
            raise UnlikeError("its system texts are merged")
        for message in asked.messages:
            if message["role"] == "developer":
                message["role"] = "system"


def _token(given: Any) -> str:
    return str(given["content"]) if isinstance(given, dict) else str(given)


def _tojson(value: Any, indent: int | None = None, *, sort_keys: bool = False, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)


def _now(form: str) -> str:
    # In the engine's time zone, which is taken to be ours; counts tell where it is not.
    return datetime.now().strftime(form)  # noqa: DTZ005


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
