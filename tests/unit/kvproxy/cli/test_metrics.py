import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from kvproxy.cli.metrics import catalogue, metrics

ROOT = Path(__file__).parents[4]
# Of engines and of load runs, which are not kvproxy's own.
FOREIGN = ("kvproxy_loadgen_",)


async def test_the_page_is_current() -> None:
    written = (ROOT / "config/metrics.md").read_text()
    assert written == catalogue(), "run: make settings"


def test_it_is_a_command() -> None:
    shown = CliRunner().invoke(metrics)
    assert shown.exit_code == 0, shown.output
    assert "| `kvproxy_ttft_seconds` | histogram | replica |" in shown.output


async def test_rules_and_dashboards_name_metrics_that_exist() -> None:
    known = set(re.findall(r"`(kvproxy_\w+)`", catalogue()))
    used = set()
    for path in [
        *ROOT.glob("deploy/prometheus/rules/*"),
        *ROOT.glob("deploy/grafana/dashboards/*"),
    ]:
        used |= set(re.findall(r"\bkvproxy_\w+", path.read_text()))
    own = {name.removesuffix("_bucket") for name in used if not name.startswith(FOREIGN)}
    assert own <= known
    assert len(own) > 20


def test_every_metric_of_the_code_is_in_the_page() -> None:
    """A metric is whatever is made with a name that begins with kvproxy_, in any process."""
    listed = re.findall(r"\| `(kvproxy_\w+)` \|", catalogue())
    known = {name.removesuffix("_total") for name in listed}
    named = {
        (f"{path.relative_to(ROOT)}:{line}", pattern)
        for path in ROOT.glob("kvproxy/**/*.py")
        for line, pattern in metric_names(path.read_text())
    }
    assert len(named) > 40
    missing = [
        f"{where}: {pattern}"
        for where, pattern in sorted(named)
        if not any(re.fullmatch(pattern, name) for name in known)
    ]
    assert not missing, f"let catalogue() turn on what has them, then make settings: {missing}"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('Tally("kvproxy_new", "text")', ["kvproxy_new"]),
        ('Counted(f"kvproxy_events_{name}", text)', [r"kvproxy_events_\w+"]),
        ('SomeFamily(name="kvproxy_new")', ["kvproxy_new"]),
        ('dumps({"kvproxy_decisions": 1}), print("other"), ContextVar("kvproxy_trace")', []),
    ],
)
def test_names_are_found(source: str, names: list[str]) -> None:
    assert [pattern for _, pattern in metric_names(source)] == names


def metric_names(source: str) -> Iterator[tuple[int, str]]:
    """Line and pattern of every name that something is called with first, or as `name`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) != "ContextVar":
            named = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
            for value in [*node.args[:1], *named]:
                pattern = _pattern(value)
                if pattern.startswith("kvproxy_"):
                    yield node.lineno, pattern


def _pattern(value: ast.expr) -> str:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    if isinstance(value, ast.JoinedStr):
        return "".join(_pattern(part) or r"\w+" for part in value.values)
    return ""
