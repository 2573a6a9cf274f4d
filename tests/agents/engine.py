"""What the emulated model says to an agent: it looks at a file a few times, once has a sub-agent do
so, and is done. A function of the conversation alone, so that it may be asked again.
"""

import json
from typing import Any

from xxhash import xxh3_64_hexdigest

from loadgen.chat_template import content_text, tool_call_text
from loadgen.emulator.replies import Reply, Speaker, ToolCall
from loadgen.emulator.requests import ChatCall, Sampling

STEPS, SUB_STEPS, DELEGATES_AT = 6, 3, 2
TASK, SUB_TASK, MORE = "Read the notes to the end", "Look around here", "Go on with the rest"
DONE = "All of it is read"
# What the agents call a tool that runs a command, and one that begins a sub-agent.
_SHELLS = ("Bash", "bash", "exec_command")
_DELEGATES = ("Agent", "task")


class Scripted(Speaker):
    def reply(
        self, prompt: bytes, sampling: Sampling, chat: ChatCall | None = None, choice: int = 0
    ) -> Reply:
        tools = [tool["function"] for tool in chat.tools] if chat is not None else []
        shell = _named(tools, _SHELLS)
        if chat is None or shell is None:
            return super().reply(prompt, sampling, chat, choice)
        said = [content_text(m.get("content")) for m in chat.messages if m["role"] == "user"]
        is_sub = not any(TASK in text for text in said)
        asked = max(n for n, message in enumerate(chat.messages) if message["role"] == "user")
        step = sum(message["role"] == "tool" for message in chat.messages[asked:])
        if step >= (SUB_STEPS if is_sub else STEPS):
            return Reply(DONE, self._tokeniser.encode(DONE), "stop")
        delegate = _named(tools, _DELEGATES)
        if delegate is not None and not is_sub and step == DELEGATES_AT:
            return self._call(prompt, delegate, {})
        return self._call(prompt, shell, {"c": f"echo step {step}; head -c 3000 notes.txt"})

    def _call(self, prompt: bytes, function: dict[str, Any], given: dict[str, str]) -> Reply:
        properties = function["parameters"]["properties"]
        values = dict[str, Any].fromkeys(function["parameters"].get("required", []), SUB_TASK)
        if "subagent_type" in properties:
            described = function["description"] + json.dumps(properties)
            values["subagent_type"] = (
                "general-purpose" if "general-purpose" in described else "general"
            )
        if given:
            values["cmd" if "cmd" in properties else "command"] = given["c"]
        if "run_in_background" in properties and not given:
            values["run_in_background"] = False
        arguments = json.dumps(values)
        text = tool_call_text({"name": function["name"], "arguments": arguments})
        name = f"chatcmpl-tool-{xxh3_64_hexdigest(prompt)}"
        call = ToolCall(name, function["name"], arguments, text.rindex(arguments))
        return Reply(text, self._tokeniser.encode(text), "stop", call)


def _named(tools: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any] | None:
    return next((tool for tool in tools if tool["name"] in names), None)
