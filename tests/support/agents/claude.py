"""A session in the shape of Claude Code: /v1/messages, with everything around the main thread.

The first system block is a billing line whose `cch` differs from request to request. Tokens are
counted before turns, titles and topics are asked for beside them, a task is given to a sub-agent
with a prompt of its own, and in the end the conversation is summed up and goes on from the summary.
"""

import json
from random import Random

from tests.support.agents import words
from tests.support.agents.request import AgentRequest, Habits, Json

_TOOLS = ("Bash", "Edit", "Glob", "Grep", "Read", "Task", "TodoWrite", "WebFetch", "Write")
_HELPERS = ("Glob", "Grep", "Read")
_SERVED = ("mcp__docs__find", "mcp__docs__open", "mcp__tickets__list", "mcp__tickets__show")


class ClaudeSession:
    """`seed` fixes every word; `tidy` leaves out all that changes without meaning anything."""

    def __init__(self, seed: int, *, tidy: bool, turns: int = 6, model: str = "emu") -> None:
        self._model = model
        self._random = Random(f"claude {seed}")
        self._habits = Habits(Random(f"habits {seed}"), tidy)
        self._turns = turns
        self._session = f"{self._random.getrandbits(64):016x}"
        version = Random("version of the agent")
        self._tools = [_tool(version, name) for name in (*_TOOLS, *_SERVED)]
        self._instructions = words.prose(version, 120)
        self._project = words.prose(self._random, 20)
        self._requests: list[AgentRequest] = []

    def requests(self) -> list[AgentRequest]:
        """In the order in which the client sends them; assistants' turns are made up."""
        task = words.prose(self._random, 4)
        self._side("title", f"Name this work in five words: {task}")
        messages: list[Json] = [self._user(f"{self._project}\n\n{task}")]
        for number in range(self._turns):
            if number == self._turns // 2:
                self._delegate(messages)
            if number % 2 == 0:
                self._count(messages)
            self._main("turn", messages)
            self._side("topic", f"Is this a new topic? {words.sentence(self._random)}")
            self._answer(messages)
        self._main("summary", [*messages, self._user("Sum up all that was said and done.")])
        summary = words.prose(self._random, 30)
        messages = [self._user(f"{self._project}\n\nSo far: {summary}")]
        for _ in range(2):
            self._main("compacted", messages)
            self._answer(messages)
        return self._requests

    def _main(self, kind: str, messages: list[Json]) -> None:
        system = f"You are a coding agent.\n{self._instructions}"
        self._send(kind, system, messages, tools=self._tools)

    def _side(self, kind: str, question: str) -> None:
        self._send(kind, "Answer in a few words.", [self._user(question)])

    def _count(self, messages: list[Json]) -> None:
        system = f"You are a coding agent.\n{self._instructions}"
        self._send("count", system, messages, tools=self._tools, path="/v1/messages/count_tokens")

    def _delegate(self, messages: list[Json]) -> None:
        """The main thread calls Task; a sub-agent works and its last words are the result."""
        agent = f"{self._random.getrandbits(32):08x}"
        asked = words.prose(self._random, 3)
        call = f"toolu_{self._random.getrandbits(48):012x}"
        given = {"description": words.sentence(self._random), "prompt": asked}
        self._call(messages, call, "Task", given)
        thread = [self._user(asked)]
        tools = [tool for tool in self._tools if tool["name"] in _HELPERS]
        for _ in range(3):
            system = f"You search code for another agent.\n{self._instructions[:2000]}"
            self._send("sub-agent", system, thread, tools=tools, agent=agent)
            self._answer(thread)
        self._result(messages, call, words.prose(self._random, 5))

    def _answer(self, messages: list[Json]) -> None:
        """What the model is taken to have said, and the result of what it called."""
        call = f"toolu_{self._random.getrandbits(48):012x}"
        self._call(messages, call, "Read", words.arguments(self._random))
        self._result(messages, call, words.code(self._random, self._random.randrange(5, 40)))

    def _call(self, messages: list[Json], call: str, name: str, given: Json) -> None:
        thought = {
            "type": "thinking",
            "thinking": words.sentence(self._random),
            "signature": f"{self._random.getrandbits(128):032x}",
        }
        text = {"type": "text", "text": words.sentence(self._random)}
        use = {"type": "tool_use", "id": call, "name": name, "input": given}
        messages.append({"role": "assistant", "content": [thought, text, use]})

    def _result(self, messages: list[Json], call: str, content: str) -> None:
        result = {"type": "tool_result", "tool_use_id": call, "content": content}
        messages.append({"role": "user", "content": [result]})

    def _user(self, text: str) -> Json:
        return {"role": "user", "content": [{"type": "text", "text": text}]}

    def _send(
        self,
        kind: str,
        system: str,
        messages: list[Json],
        *,
        tools: list[Json] | None = None,
        agent: str = "",
        path: str = "/v1/messages",
    ) -> None:
        headers = {
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            "user-agent": "claude-cli/2.1.150 (external, cli)",
            "x-claude-code-session-id": self._session,
        }
        if agent:
            headers["x-claude-code-agent-id"] = agent
        user = {"device_id": "d" * 16, "account_uuid": "", "session_id": self._session}
        fields: Json = {
            "model": self._model,
            "system": self._system(system),
            "messages": self._written(messages),
        }
        if tools is not None:
            fields["tools"] = self._habits.tools(tools, "input_schema")
        if path == "/v1/messages":
            fields |= {"max_tokens": 16, "metadata": {"user_id": json.dumps(user)}, "stream": True}
        self._requests.append(AgentRequest(kind, path, headers, self._habits.body(fields)))

    def _system(self, text: str) -> list[Json]:
        cached = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
        line = self._habits.billing()
        return [{"type": "text", "text": line}, cached] if line else [cached]

    def _written(self, messages: list[Json]) -> list[Json]:
        """The keys of inputs in the client's order of the day, and where it wants to be cached:
        the last block of the conversation, so the mark moves on with every turn."""
        written = [
            message | {"content": [self._habits_of(block) for block in message["content"]]}
            for message in messages
        ]
        written[-1]["content"][-1]["cache_control"] = {"type": "ephemeral", "ttl": "5m"}
        return written

    def _habits_of(self, block: Json) -> Json:
        if block["type"] == "tool_use":
            return block | {"input": self._habits.shuffled(block["input"])}
        return dict(block)


def _tool(random: Random, name: str) -> Json:
    return {
        "name": name,
        "description": words.prose(random, 6),
        "input_schema": words.schema(random),
    }
