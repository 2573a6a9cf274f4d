import pytest

from kvproxy.core.clients import FAMILIES, family


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("claude-cli/2.1.86 (external, cli)", "claude_code"),
        ("codex_cli_rs/0.131.0 (Debian 12; x86_64)", "codex"),
        ("opencode/1.2.3", "opencode"),
        ("OpenAI/Python 3.54.0", "openai_sdk"),
        ("AsyncOpenAI/Python 3.54.0", "openai_sdk"),
        ("Anthropic/Python 1.2", "anthropic_sdk"),
        ("curl/8", "other"),
        ("", "other"),
        ("x" * 10_000 + "codex", "other"),
    ],
)
def test_families(user_agent: str, name: str) -> None:
    assert family(user_agent) == name
    assert name in FAMILIES
