"""What differs between two JSON values, as a diff that may be shown to others.

Texts are replaced by their length and a short digest unless they are asked for; what looks like a
secret never appears.
"""

import difflib
import json
import re
import textwrap
from typing import Any

from xxhash import xxh3_64_hexdigest

_LINES_MAX = 40
_WRAP = 100
_LINE_CHARACTERS_MAX = 160
# Members whose texts are names of the API or of tools, not content.
_SHOWN = frozenset({"role", "type", "name", "model", "effort", "ttl"})
_SECRET = re.compile(
    r"\b(?:sk|pk|ghp|gho|xox[abp]|glpat|AKIA|eyJ)[-_]?[A-Za-z0-9_\-.]{12,}"
    r"|(?i:bearer|password|passwd|secret|token|api[-_]?key)[\"'\s:=]+[^\s\"',;]{6,}"
)


def excerpt(before: Any, now: Any, *, show_text: bool = False) -> list[str]:
    """Lines of a unified diff of two decoded JSON values, bounded in number and length."""
    one, other = (_lines(value, show_text) for value in (before, now))
    diff = list(difflib.unified_diff(one, other, "before", "now", n=2, lineterm=""))
    if len(diff) > _LINES_MAX:
        diff = [*diff[:_LINES_MAX], f"… {len(diff) - _LINES_MAX} more lines"]
    return [line[:_LINE_CHARACTERS_MAX] for line in diff]


def _lines(value: Any, show_text: bool) -> list[str]:
    shown = _shown(value, show_text)
    return json.dumps(shown, indent=1, ensure_ascii=False).splitlines()


def _shown(value: Any, show_text: bool, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _shown(inner, show_text, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner, show_text, name) for inner in value]
    if not isinstance(value, str) or name in _SHOWN:
        return value
    if not show_text:
        digest = xxh3_64_hexdigest(value.encode(errors="surrogatepass"))[:4]
        return f"<{len(value)} characters, {digest}>"
    text = _SECRET.sub("<secret>", value)
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, _WRAP) or [""]]
    return lines[0] if len(lines) == 1 else lines


def first_difference(before: str, now: str) -> int:
    """The character where two texts part."""
    shortest = min(len(before), len(now))
    pairs = zip(before, now, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), shortest)
