"""The agents: where they come from, and how each is told to use another endpoint."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# All of the environment that they see: nothing of whoever runs the tests, no account of theirs.
_PATH = "/usr/local/bin:/usr/bin:/bin"
_KEY = "sk-nobody"


@dataclass(frozen=True, slots=True)
class Program:
    """`executable` is a pattern below the folder that the package was installed to, the first that
    exists is it. `begin` makes the arguments of a first prompt and `resume` those of one that goes
    on with the last session, both from (url, prompt); `settings` the variables, from the url."""

    name: str
    package: str
    version: str
    executable: str
    begin: Callable[[str, str], list[str]]
    resume: Callable[[str, str], list[str]]
    settings: Callable[[str], dict[str, str]]

    def path(self, folder: Path) -> Path:
        """Raises FileNotFoundError where it is not installed."""
        found = sorted((folder / "node_modules").glob(self.executable))
        if not found:
            raise FileNotFoundError(f"no {self.executable} in {folder}")
        return found[0]

    def environment(self, url: str, home: Path) -> Mapping[str, str]:
        own = {"HOME": str(home), "PATH": _PATH, "TERM": "dumb", "LANG": "C.UTF-8"}
        return own | self.settings(url)


def _codex(url: str, prompt: str, *command: str) -> list[str]:
    provider = f'{{name="kvproxy",base_url="{url}/v1",wire_api="responses",env_key="KEY"}}'
    return [
        *("exec", *command, "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
        *("-c", 'model_provider="kvproxy"', "-c", 'model="emu"'),
        *("-c", f"model_providers.kvproxy={provider}", prompt),
    ]


def _claude(prompt: str, *options: str) -> list[str]:
    return ["-p", *options, "--model", "emu", "--dangerously-skip-permissions", prompt]


def _claude_settings(url: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": _KEY,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "emu",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # It asks for one before it runs commands as root.
        "IS_SANDBOX": "1",
    }


def _opencode_settings(url: str) -> dict[str, str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "kvproxy",
        "options": {"baseURL": f"{url}/v1", "apiKey": _KEY},
        "models": {"emu": {"name": "emu"}},
    }
    config = {"provider": {"kvproxy": provider}, "autoupdate": False, "share": "disabled"}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(config), "OPENCODE_DISABLE_MODELS_FETCH": "1"}


PROGRAMS = (
    Program(
        "codex",
        "@openai/codex",
        "0.171.0",
        "@openai/codex-linux-*/vendor/*/bin/codex",
        _codex,
        lambda url, prompt: _codex(url, prompt, "resume", "--last"),
        lambda url: {"KEY": _KEY},
    ),
    Program(
        "claude",
        "@anthropic-ai/claude-code",
        "2.1.332",
        "@anthropic-ai/claude-code-linux-*/claude",
        lambda url, prompt: _claude(prompt),
        lambda url, prompt: _claude(prompt, "--continue"),
        _claude_settings,
    ),
    Program(
        "opencode",
        "opencode-ai",
        "1.18.33",
        "opencode-linux-*/bin/opencode",
        lambda url, prompt: ["run", "-m", "kvproxy/emu", prompt],
        lambda url, prompt: ["run", "--continue", "-m", "kvproxy/emu", prompt],
        _opencode_settings,
    ),
)
