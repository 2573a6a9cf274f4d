"""A session in the shape of Codex: /v1/responses, where every turn sends all items again.

The instructions come first, then a developer message and the environment; reasoning items stand
before calls; a call takes one of the functions or free text; in the end the items are replaced by a
summary of them.
"""

from random import Random

from tests.support.agents import words
from tests.support.agents.request import AgentRequest, Habits, Json

_FUNCTIONS = ("shell", "read_file", "list_dir", "update_plan", "view_image", "spawn_agent")


class CodexSession:
    """`seed` fixes every word; `tidy` leaves out all that changes without meaning anything."""

    def __init__(self, seed: int, *, tidy: bool, turns: int = 7, model: str = "emu") -> None:
        self._model = model
        self._random = Random(f"codex {seed}")
        self._habits = Habits(Random(f"habits {seed}"), tidy)
        self._turns = turns
        self._thread = f"{self._random.getrandbits(128):032x}"
        version = Random("version of the agent")
        self._instructions = words.prose(version, 100)
        self._tools: list[Json] = [
            {
                "type": "function",
                "name": name,
                "description": words.prose(version, 5),
                "strict": False,
                "parameters": words.schema(version),
            }
            for name in _FUNCTIONS
        ]
        self._requests: list[AgentRequest] = []

    def requests(self) -> list[AgentRequest]:
        """In the order in which the client sends them; what the model said is made up."""
        opening = [
            _said("developer", "input_text", words.prose(self._random, 12)),
            _said("user", "input_text", f"<environment>{words.path(self._random)}</environment>"),
        ]
        items = [*opening, _said("user", "input_text", words.prose(self._random, 4))]
        for _ in range(self._turns):
            self._send("turn", items)
            self._answer(items)
        wanted = _said("user", "input_text", "Sum up all that was said and done.")
        self._send("summary", [*items, wanted])
        items = [*opening, _said("user", "input_text", words.prose(self._random, 30))]
        for _ in range(2):
            self._send("compacted", items)
            self._answer(items)
        return self._requests

    def _answer(self, items: list[Json]) -> None:
        name = f"{self._random.getrandbits(48):012x}"
        text = {"type": "reasoning_text", "text": words.sentence(self._random)}
        items.append({"type": "reasoning", "id": f"rs_{name}", "summary": [], "content": [text]})
        if self._random.random() < 0.5:
            items.append(_said("assistant", "output_text", words.sentence(self._random)))
        items.append(
            {
                "type": "function_call",
                "id": f"fc_{name}",
                "call_id": f"call_{name}",
                "name": "read_file",
                "arguments": words.arguments(self._random),
                "status": "completed",
            }
        )
        output = words.code(self._random, self._random.randrange(5, 40))
        items.append({"type": "function_call_output", "call_id": f"call_{name}", "output": output})

    def _send(self, kind: str, items: list[Json]) -> None:
        headers = {
            "content-type": "application/json",
            "user-agent": "codex_cli_rs/0.140.0",
            "session-id": self._thread,
            "thread-id": self._thread,
        }
        fields: Json = {
            "model": self._model,
            "instructions": self._instructions,
            "input": [self._written(item) for item in items],
            "tools": self._habits.tools(self._tools, "parameters"),
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "reasoning": {"effort": "medium"},
            "store": False,
            "stream": True,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": self._thread,
            "max_output_tokens": 16,
        }
        body = self._habits.body(fields)
        self._requests.append(AgentRequest(kind, "/v1/responses", headers, body))

    def _written(self, item: Json) -> Json:
        if item["type"] != "function_call":
            return item
        return item | {"arguments": self._habits.arguments(item["arguments"])}


def _said(role: str, kind: str, text: str) -> Json:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
