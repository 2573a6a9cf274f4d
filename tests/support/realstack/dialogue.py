"""Messages that follow a shape, filled with Python's own library: code, prose and tables, so that
bytes per token vary from message to message as they do in real work."""

import json
import sysconfig
from pathlib import Path
from random import Random
from typing import Any

from tests.support.realstack.shapes import Shape, Step

# Of the tiny model's tokeniser on such text; only lengths depend on it.
CHARACTERS_PER_TOKEN = 2.9
MESSAGE_CHARACTERS_MIN = 40
OPENING_TOKENS = 1200
_FILES = ("argparse", "ast", "decimal", "difflib", "doctest", "inspect", "pdb", "tarfile", "typing")
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name.replace('_', ' ').capitalize()} in the workspace",
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Path relative to the root"},
                    "limit": {"type": "integer"},
                },
                "required": ["path"],
            },
        },
    }
    for name in ("read_file", "search_text", "list_folder")
]


def library_text() -> str:
    folder = Path(sysconfig.get_paths()["stdlib"])
    return "".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in _FILES)


class Dialogue:
    """One conversation as it grows. prompt() then answered(), in turns."""

    def __init__(self, shape: Shape, text: str, seed: int) -> None:
        self._text = text
        self._random = Random(f"{seed} {shape.name}")
        # Openings are those of a few versions of one agent: alike at first, then different.
        version = (0.8, 1.0, 1.1)[self._random.randrange(3)]
        opening = text[: round(OPENING_TOKENS * version * CHARACTERS_PER_TOKEN)]
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": opening}]
        self._shape = shape

    def prompt(self, step: Step) -> tuple[list[dict[str, Any]], bool]:
        """The messages of the next request, and whether older ones were dropped for it."""
        rewound = self._rewind(step)
        missing = round(step.prompt * CHARACTERS_PER_TOKEN) - _characters(self.messages)
        content = self._words(max(missing, MESSAGE_CHARACTERS_MIN))
        call = self.messages[-1].get("tool_calls")
        if call:
            new = {"role": "tool", "tool_call_id": call[0]["id"], "content": content}
        else:
            new = {"role": "user", "content": content}
        self.messages.append(new)
        return self.messages, rewound

    def answered(self, text: str | None, step: Step, tool_next: bool) -> None:
        """Append the assistant's message: `text` as it came, or an invented one for None."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if text is None:
            message["content"] = self._words(round(step.answer * CHARACTERS_PER_TOKEN))
        if tool_next:
            arguments = {"path": f"src/module_{self._random.randrange(100)}.py", "limit": 200}
            function = {"name": "read_file", "arguments": json.dumps(arguments)}
            call_id = f"call_{self._random.randrange(10**9)}"
            message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
        self.messages.append(message)

    def _rewind(self, step: Step) -> bool:
        """Drop what the recording no longer had; block edges and our own lengths blur the cut."""
        kept = round(step.shared * CHARACTERS_PER_TOKEN)
        before = len(self.messages)
        if kept < 0.8 * _characters(self.messages):
            while len(self.messages) > 1 and _characters(self.messages) > kept:
                self.messages.pop()
            while self.messages[-1]["role"] == "user" or "tool_calls" in self.messages[-1]:
                self.messages.pop()
        return len(self.messages) < before

    def _words(self, characters: int) -> str:
        start = self._random.randrange(len(self._text))
        return (self._text[start:] + self._text)[:characters]


def _characters(messages: list[dict[str, Any]]) -> int:
    return sum(len(message["content"] or "") for message in messages)
