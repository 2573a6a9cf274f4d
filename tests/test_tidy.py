"""The sources keep the house rules; every offender is listed with file and line."""

import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.support import tidy
from tests.support.tidy import Source

ROOT = Path(__file__).resolve().parents[1]
FILES = tidy.repository_files(ROOT)
PYTHON = [source for source in FILES if source.path.endswith(".py")]
PER_FILE = [
    tidy.long_functions,
    tidy.long_lines,
    tidy.long_module,
    tidy.impure_core,
    tidy.prints,
    tidy.missing_docstring,
]
Check = Callable[[Source], Iterator[str]]


def report(offenders: Iterable[str]) -> None:
    listed = list(offenders)
    assert not listed, "\n" + "\n".join(listed)


def test_there_is_something_to_check() -> None:
    paths = {source.path for source in FILES}
    assert {"pyproject.toml", "kvproxy/core/units.py", "tests/test_tidy.py"} <= paths


@pytest.mark.parametrize("check", PER_FILE, ids=lambda check: check.__name__)
def test_python_sources(check: Check) -> None:
    report(line for source in PYTHON for line in check(source))


def test_forbidden_words() -> None:
    own = ("tests/support/tidy.py", "tests/test_tidy.py")
    report(w for s in FILES if s.path not in own for w in tidy.forbidden_words(s))


def test_every_source_has_its_test_and_the_reverse() -> None:
    report(tidy.unmirrored(PYTHON))


def test_no_dead_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entry_points = [target.partition(":")[0] for target in project["scripts"].values()]
    report(tidy.dead_modules(PYTHON, entry_points))


BODY = "    pass\n" * 70
OFFENDERS: list[tuple[Check, str, str, str]] = [
    (tidy.long_functions, "kvproxy/a.py", f"x = 1\ndef f():\n{BODY}", ":2: f has 71 lines"),
    (tidy.long_functions, "tests/a.py", f"async def f():\n{BODY}", ":1: f has 71 lines"),
    (tidy.long_lines, "kvproxy/a.py", "#\n#" + "x" * 100, ":2: 101 columns"),
    (tidy.long_module, "kvproxy/a.py", "\n" * 351, ":351: the module has 351 lines"),
    (tidy.impure_core, "kvproxy/core/a.py", "import time as t", ":1: core imports time"),
    (tidy.impure_core, "kvproxy/core/a.py", "def f():\n  from random import x", ":2: core"),
    (tidy.impure_core, "kvproxy/core/a.py", "import logging.handlers", "logging.handlers"),
    (tidy.prints, "kvproxy/core/a.py", "def f():\n  print(1)", ":2: print"),
    (tidy.missing_docstring, "loadgen/a.py", "x = 1", ":1: the module has no docstring"),
    (tidy.missing_docstring, "loadgen/__init__.py", "", ":1: the module has no docstring"),
    (tidy.forbidden_words, "README.md", "a\nsee /work/main", ":2: a path of one machine"),
    (tidy.forbidden_words, "deploy/x.sh", "curl https://pypi.org/x", ":1: a package registry"),
    (tidy.forbidden_words, "kvproxy/a.py", "# TODO: later", ":1: a note to self"),
]


@pytest.mark.parametrize(("check", "path", "text", "expected"), OFFENDERS)
def test_checks_find_offenders(check: Check, path: str, text: str, expected: str) -> None:
    found = list(check(Source(path, text)))
    assert len(found) >= 1
    assert found[0].startswith(path)
    assert expected in found[0]


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (tidy.long_functions, "kvproxy/a.py", f"def f():\n{BODY[:-9]}"),
        (tidy.impure_core, "kvproxy/ops/a.py", "import time"),
        (tidy.impure_core, "kvproxy/core/a.py", "from kvproxy.core import time_units"),
        (tidy.prints, "kvproxy/cli/a.py", "print(1)"),
        (tidy.prints, "loadgen/demo.py", "print(1)"),
        (tidy.missing_docstring, "tests/a.py", "x = 1"),
        (tidy.forbidden_words, "README.md", "../shared/work/ and https://a/root/"),
    ],
)
def test_checks_leave_others_alone(check: Check, path: str, text: str) -> None:
    assert list(check(Source(path, text))) == []


def test_mirror_check_finds_both_directions() -> None:
    paths = ["kvproxy/a.py", "kvproxy/__init__.py", "tests/unit/kvproxy/core/test_b.py"]
    assert list(tidy.unmirrored([Source(path, "") for path in paths])) == [
        "kvproxy/a.py:1: has no test file tests/unit/kvproxy/test_a.py",
        "tests/unit/kvproxy/core/test_b.py:1: tests kvproxy/core/b.py, which does not exist",
    ]


def test_dead_module_check_knows_imports_strings_and_entry_points() -> None:
    sources = [
        Source("kvproxy/entry.py", "from kvproxy import used\nT = 'kvproxy.lazy:run'"),
        Source("kvproxy/used.py", "import kvproxy.used"),
        Source("kvproxy/lazy.py", ""),
        Source("kvproxy/dead.py", "import kvproxy.dead"),
        Source("tests/unit/kvproxy/test_dead.py", "import kvproxy.dead"),
    ]
    found = list(tidy.dead_modules(sources, ["kvproxy.entry"]))
    assert found == ["kvproxy/dead.py:1: no other module uses this one"]
