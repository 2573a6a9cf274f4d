"""Pages and files for operators name settings, metrics, commands and codes that exist."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import click
import pytest
import yaml

from kvproxy.cli.commands import main
from kvproxy.cli.metrics import catalogue
from kvproxy.core.errors import CLIENTS_OWN, ERRORS
from kvproxy.core.life_cycle import Health
from kvproxy.settings.cautions import cautions
from kvproxy.settings.load import load
from kvproxy.settings.model import Settings
from kvproxy.settings.pools import PolicyName
from kvproxy.settings.source import env_name
from kvproxy.settings.tree import dotted, known_keys, leaves
from tests.newcomer.__main__ import typed
from tests.support.tidy import repository_files

ROOT = Path(__file__).parents[2]
FILES = repository_files(ROOT)
PAGES = [source.path for source in FILES if source.path.endswith(".md")]
# What is written for machines and the comments in it.
CONFIGURED = [
    source.path
    for source in FILES
    if source.path.startswith(("deploy/", ".ci/", "Makefile")) and not source.path.endswith(".md")
]
TEXT = {source.path: source.text for source in FILES}
# Attributes of spans that look like a setting.
OF_SPANS = {"server.address"}
OF_FILES = re.compile(r"\.(py|md|yaml|json|sh|conf|log|prom)$")
# Families of load runs (loadgen/output), and nginx's variables.
OTHER_NAMES = re.compile(r"kvproxy_(loadgen_\w+|session(_codex|_header)?)$")
# Policies of vLLM's router.
OF_PEERS = {"cache_aware", "consistent_hash"}
# Raised and caught: the next replica is tried.
NEVER_ANSWERED = {"upstream_declined"}

of_pages = pytest.mark.parametrize("page", PAGES)
of_all = pytest.mark.parametrize("page", [*PAGES, *CONFIGURED])


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


@cache
def known_metrics() -> frozenset[str]:
    """Names as they are scraped."""
    rows = re.findall(r"^\| `(kvproxy_\w+)` \| (\w+) ", catalogue(), re.MULTILINE)
    parts = [f"{name}_{part}" for name, kind in rows if kind == "histogram"
             for part in ("bucket", "sum", "count")]  # fmt: skip
    return frozenset({name for name, _ in rows} | set(parts))


def commands(text: str) -> Iterator[list[str]]:
    """Words behind `kvproxy`, in backticks or at the beginning of a line of code."""
    text = re.sub(r"\\\n\s*", " ", text)
    inline = re.findall(r"`(kvproxy [^`]+)`", text.replace("\n", " "))
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    typed_ones = re.findall(r"^(?:\w+=\S+ )*(kvproxy .*)$", "\n".join(blocks), re.MULTILINE)
    for command in [*inline, *typed_ones]:
        said = re.split(r"\s[|&>#]|;", command)[0]
        yield shlex.split(said)[1:]


def wrong_words(words: list[str]) -> list[str]:
    """A command that is none, or flags that it does not take."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        if found is None:
            break
        command, rest = found, rest[1:]
    if command is main and rest and not rest[0].startswith("-"):
        return rest[:1]
    options = [o for o in command.get_params(click.Context(command)) if isinstance(o, click.Option)]
    known = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    return [w for w in rest if w.startswith("--") and w.partition("=")[0] not in known]


@of_pages
def test_settings_are_there(page: str) -> None:
    assert unknown_keys(TEXT[page]) == []
    last = {str(path[-1]) for path in known_keys(Settings)}
    assert set(re.findall(r"\b[a-z]+\[\]\.([a-z_]+)", TEXT[page])) <= last


@of_all
def test_variables_are_there(page: str) -> None:
    known = {env_name(leaf.path) for leaf in leaves(Settings)} | {"KVPROXY_SECTION__KEY"}
    assert set(re.findall(r"\bKVPROXY_[A-Z0-9_]+\b", TEXT[page])) <= known


@of_all
def test_metrics_are_there(page: str) -> None:
    # What a path or a call goes on with is the name of a module or a function.
    named = set(re.findall(r"\bkvproxy_[a-z0-9_]+\b(?![/(])", TEXT[page]))
    assert {name for name in named if not OTHER_NAMES.match(name)} <= known_metrics()


@of_pages
def test_commands_take_the_flags_they_are_given(page: str) -> None:
    assert [found for words in commands(TEXT[page]) if (found := wrong_words(words))] == []


@of_all
def test_targets_and_modules_are_there(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", TEXT["Makefile"], re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", TEXT[page], re.MULTILINE)) <= targets
    modules = re.findall(r"python3? -m ((?:tests|kvproxy|loadgen)[\w.]*)", TEXT[page])
    for path in (module.rstrip(".").replace(".", "/") for module in modules):
        assert {f"{path}.py", f"{path}/__main__.py"} & set(TEXT), path


@of_pages
def test_pages_they_link_to_are_there(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]*)(#[\w-]+)?\)", TEXT[page])
    for target, section in links:
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert section[1:] in slugs, (target, section)


def section(page: str, heading: str) -> str:
    """What stands under a heading."""
    return re.split(rf"^#+ {heading}$", TEXT[page], flags=re.MULTILINE)[1].split("\n#")[0]


def rows_of(page: str, heading: str) -> list[str]:
    """First cells of the table under a heading."""
    return re.findall(r"^\| ([^|]+) \|", section(page, heading), re.MULTILINE)[1:]


def test_every_error_is_told() -> None:
    cells = rows_of("kvproxy/README.md", "Errors")
    told = [code.strip() for cell in cells for code in cell.split(",")]
    assert sorted(told) == sorted(set(ERRORS) - NEVER_ANSWERED)


def test_every_state_of_a_replica_is_told() -> None:
    cells = rows_of("kvproxy/README.md", "When a replica is used")
    states = {str(state.value) for state in Health}
    assert states <= {state.strip() for cell in cells for state in cell.split(",")}


def test_every_finding_of_the_doctor_is_told() -> None:
    checks = [text for path, text in TEXT.items() if path.startswith("kvproxy/admin/doctor/check")]
    codes = {code for text in checks for code in re.findall(r'Finding\(\s*"(\w+)"', text)}
    told = set(re.findall(r"\b[a-z_]+\b", TEXT["kvproxy/admin/doctor/README.md"]))
    assert codes
    assert codes <= told


def test_policies_are_there() -> None:
    for page in PAGES:
        named = set(re.findall(r"(?:policy\.name: |--policy )`?([a-z_]+)", TEXT[page]))
        assert named - OF_PEERS <= set(get_args(PolicyName)), page


def test_what_clients_do_wrong_pages_nobody() -> None:
    rules = TEXT["deploy/prometheus/rules/recording.yaml"]
    [left_out] = re.findall(r'error_ratio:rate5m\n.*?outcome!~"([\w|]+)"', rules, re.DOTALL)
    assert set(left_out.split("|")) == {"ok", "client_gone"} | CLIENTS_OWN


def test_figures_of_the_comparison_are_those_measured() -> None:
    measured = TEXT["tests/benchmark/README.md"].partition("## Figures")[2].partition("\n## ")[0]
    told = (
        TEXT["deploy/COMPARISON.md"].partition("## What a request costs")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"^\| [^|]+, [µm]s \| (.*) \|$", told, re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        figures = row.split(" | ")
        columns = r"\s.*\|\s".join(re.escape(figure) for figure in figures)
        assert re.search(rf"\| {columns}\s", measured), row


def test_the_example_of_a_fleet_is_one_that_serves(tmp_path: Path) -> None:
    values = yaml.safe_load(TEXT["deploy/helm/fleet.yaml"])
    file = tmp_path / "kvproxy.yaml"
    file.write_text(yaml.safe_dump(values["config"]))
    settings = load(file, {"ENGINE_KEY": "a", "VALKEY_PASSWORD": "b"}).settings
    assert list(cautions(settings)) == []
    assert values["terminationGracePeriodSeconds"] > settings.server.grace_s


def test_first_steps_are_few() -> None:
    """`make test-newcomer` types them."""
    typed_ones = typed(TEXT["README.md"])
    assert next(n for n, line in enumerate(typed_ones, 1) if line.startswith("curl")) <= 5
    assert typed_ones[-1].endswith("--output out/run")


def test_what_is_no_key_is_found() -> None:
    text = "`server.port` `server.prot` `upstream.keepalive_s: 3` `proxy.py` `x.y` `lmcache.none`"
    assert unknown_keys(text) == ["lmcache.none", "server.prot"]


def test_what_is_no_command_is_found() -> None:
    text = "`kvproxy serv`, `kvproxy serve --prot 1 --port=2`\n"
    text += "```\nkvproxy loadgen synth \\\n --sed 1\n```"
    assert [wrong_words(words) for words in commands(text)] == [["serv"], ["--prot"], ["--sed"]]
