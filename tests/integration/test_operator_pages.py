"""Pages for operators name settings, metrics and codes that exist."""

import re
from pathlib import Path

import pytest

from kvproxy.cli.metrics import catalogue
from kvproxy.settings.model import Settings
from kvproxy.settings.tree import dotted, leaves
from tests.newcomer.__main__ import typed

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("deploy/*.md")), ROOT / "README.md", ROOT / "kvproxy/README.md"]
# Attributes of spans that look like a setting.
OF_SPANS = {"server.address"}
OF_FILES = re.compile(r"\.(py|md|yaml|json|sh|conf|log|prom)$")


def unknown_keys(text: str) -> list[str]:
    """What looks like a key of a known section, in backticks, and is none."""
    known = {dotted(leaf.path) for leaf in leaves(Settings)}
    sections = {name.partition(".")[0] for name in known if "." in name}
    found = re.findall(r"`([a-z_]+\.[a-z0-9_.]+)(?:: [^`]*)?`", text)
    return sorted(
        name
        for name in set(found) - OF_SPANS
        if name.partition(".")[0] in sections
        and not OF_FILES.search(name)
        and not any(key == name or key.startswith(f"{name}.") for key in known)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_are_there(page: Path) -> None:
    assert unknown_keys(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_metrics_are_there(page: Path) -> None:
    known = set(re.findall(r"`(kvproxy_\w+)`", catalogue()))
    named = set(re.findall(r"`(kvproxy_\w+)`", page.read_text()))
    assert named <= known | {f"{name}_total" for name in known}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_they_link_to_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(#[\w-]+)?\)", page.read_text())
    for target, section in links:
        file = page.parent / target
        assert file.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert section[1:] in slugs, (target, section)


def test_first_steps_are_few() -> None:
    """`make test-newcomer` types them."""
    commands = typed((ROOT / "README.md").read_text())
    assert next(n for n, line in enumerate(commands, 1) if line.startswith("curl")) <= 5
    assert commands[-1].endswith("--output out/run")


def test_what_is_no_key_is_found() -> None:
    text = "`server.port` `server.prot` `upstream.keepalive_s: 3` `proxy.py` `x.y` `lmcache.none`"
    assert unknown_keys(text) == ["lmcache.none", "server.prot"]
