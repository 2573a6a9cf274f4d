"""A session in the shape of the many agents that speak Chat Completions, or of one whose gateway
does, and passes on the billing line that Claude Code puts before its system prompt."""

from random import Random

from tests.support.agents import words
from tests.support.agents.request import AgentRequest, Habits, Json

_FUNCTIONS = ("bash", "edit", "glob", "grep", "list", "read", "task", "write")


class ChatSession:
    """`seed` fixes every word; `tidy` leaves out all that changes without meaning anything."""

    def __init__(self, seed: int, *, tidy: bool, turns: int = 8, model: str = "emu") -> None:
        self._model = model
        self._random = Random(f"chat {seed}")
        self._habits = Habits(Random(f"habits {seed}"), tidy)
        self._turns = turns
        self._session = f"ses_{self._random.getrandbits(64):016x}"
        version = Random("version of the agent")
        self._instructions = words.prose(version, 110)
        self._functions = [
            {
                "name": name,
                "description": words.prose(version, 5),
                "parameters": words.schema(version),
            }
            for name in _FUNCTIONS
        ]

    def requests(self) -> list[AgentRequest]:
        """In the order in which the client sends them; what the model said is made up."""
        found = []
        messages: list[Json] = [
            {"role": "system", "content": self._instructions},
            {"role": "user", "content": words.prose(self._random, 5)},
        ]
        for _ in range(self._turns):
            found.append(self._request(messages))
            call = f"call_{self._random.getrandbits(48):012x}"
            function = {"name": "read", "arguments": words.arguments(self._random)}
            called = {"id": call, "type": "function", "function": function}
            said = words.sentence(self._random)
            messages.append({"role": "assistant", "content": said, "tool_calls": [called]})
            result = words.code(self._random, self._random.randrange(5, 40))
            messages.append({"role": "tool", "tool_call_id": call, "content": result})
        return found

    def _request(self, messages: list[Json]) -> AgentRequest:
        headers = {"content-type": "application/json", "x-session-affinity": self._session}
        functions = self._habits.tools(self._functions, "parameters")
        fields: Json = {
            "model": self._model,
            "messages": [self._written(message) for message in messages],
            "tools": [{"type": "function", "function": each} for each in functions],
            "max_tokens": 16,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return AgentRequest("turn", "/v1/chat/completions", headers, self._habits.body(fields))

    def _written(self, message: Json) -> Json:
        if message["role"] == "system":
            return message | {"content": self._habits.billing() + message["content"]}
        if "tool_calls" not in message:
            return message
        [call] = message["tool_calls"]
        function = call["function"]
        written = function | {"arguments": self._habits.arguments(function["arguments"])}
        return message | {"tool_calls": [call | {"function": written}]}
