"""Which client program sent a request, as one of few names: a label for metrics."""

OTHER = "other"
# What user-agents begin with or contain, most telling first.
_FAMILIES = (
    ("claude-cli", "claude_code"),
    ("claude-code", "claude_code"),
    ("codex", "codex"),
    ("opencode", "opencode"),
    ("cursor", "cursor"),
    ("qwen", "qwen_code"),
    ("gemini", "gemini_cli"),
    ("cline", "cline"),
    ("roo", "roo_code"),
    ("litellm", "litellm"),
    ("langchain", "langchain"),
    ("anthropic/", "anthropic_sdk"),
    ("openai/", "openai_sdk"),
    ("asyncopenai/", "openai_sdk"),
    ("asyncanthropic/", "anthropic_sdk"),
)
FAMILIES = frozenset({OTHER, *(name for _, name in _FAMILIES)})


def family(user_agent: str) -> str:
    told = user_agent[:256].lower()
    return next((name for mark, name in _FAMILIES if mark in told), OTHER)
