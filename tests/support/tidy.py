"""Checks of the sources themselves. Each takes a file and yields `file:line: what is wrong`."""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
MODULE_LINES_MAX = 350

# The core gets time, chance and IO from its caller.
NOT_IN_CORE = {
    *("aiohttp", "asyncio", "datetime", "logging", "pydantic", "random", "secrets"),
    *("socket", "threading", "time", "uuid"),
}
PACKAGES = ("kvproxy", "loadgen")
_MAY_PRINT = re.compile(r"kvproxy/cli/.*|(?:.*/)?(?:cli|demo|report)[^/]*\.py|.*/__main__\.py")
_REGISTRIES = ("pypi.org", "pythonhosted.org", "registry.npmjs.org", "deb.debian.org", "crates.io")
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.~-])/(?:work|root|Users|home/\w+)/"),
    "a package registry": re.compile("|".join(map(re.escape, _REGISTRIES))),
    "a note to self": re.compile(r"\b(?:TODO|FIXME|XXX)\b"),
    "a tracker's number": re.compile(r"\bissue #?\d+\b", re.IGNORECASE),
}


@dataclass(frozen=True)
class Source:
    """A file of the repository; `path` is relative to it, with slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def in_package(self) -> bool:
        return self.path.startswith(tuple(f"{package}/" for package in PACKAGES))

    def at(self, line: int, message: str) -> str:
        return f"{self.path}:{line}: {message}"


def repository_files(root: Path) -> list[Source]:
    """Every text file that is, or would be, under version control."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True, text=True).stdout
    sources = []
    for name in sorted(set(filter(None, listed.split("\0")))):
        path = root / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            sources.append(Source(name, content.decode("utf-8", "replace")))
    return sources


def long_functions(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield source.at(node.lineno, f"{node.name} has {lines} lines")


def long_lines(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if len(line) > COLUMNS_MAX:
            yield source.at(number, f"{len(line)} columns")


def long_module(source: Source) -> Iterator[str]:
    lines = len(source.text.splitlines())
    if source.in_package and lines > MODULE_LINES_MAX:
        yield source.at(lines, f"the module has {lines} lines")


def impure_core(source: Source) -> Iterator[str]:
    if source.path.startswith("kvproxy/core/"):
        for line, name in imports(source):
            if name.partition(".")[0] in NOT_IN_CORE:
                yield source.at(line, f"core imports {name}")


def prints(source: Source) -> Iterator[str]:
    if not source.in_package or _MAY_PRINT.fullmatch(source.path):
        return
    for node in ast.walk(source.tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield source.at(node.lineno, "print outside the command line")


def missing_docstring(source: Source) -> Iterator[str]:
    public = not PurePosixPath(source.path).name.startswith("_") or "__" in source.path
    if source.in_package and public and ast.get_docstring(source.tree) is None:
        yield source.at(1, "the module has no docstring")


def forbidden_words(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), 1):
        for what, pattern in FORBIDDEN.items():
            if found := pattern.search(line):
                yield source.at(number, f"{what}: {found[0]!r}")


def unmirrored(sources: Iterable[Source]) -> Iterator[str]:
    """Sources without their test file, and test files without their source."""
    paths = {source.path for source in sources}
    special = ("__init__.py", "__main__.py")
    for path in sorted(paths):
        folder, _, name = path.rpartition("/")
        if path.startswith(tuple(f"{package}/" for package in PACKAGES)):
            test = f"tests/unit/{folder}/test_{name}"
            if name.endswith(".py") and name not in special and test not in paths:
                yield f"{path}:1: has no test file {test}"
        elif path.startswith(tuple(f"tests/unit/{package}/" for package in PACKAGES)):
            tested = f"{folder.removeprefix('tests/unit/')}/{name.removeprefix('test_')}"
            if name.startswith("test_") and tested not in paths:
                yield f"{path}:1: tests {tested}, which does not exist"


def dead_modules(sources: Iterable[Source], entry_points: Iterable[str]) -> Iterator[str]:
    """Modules that nothing but tests refers to. Strings "module" and "module:name" count."""
    code = [source for source in sources if source.in_package and source.path.endswith(".py")]
    used = set(entry_points)
    for source in code:
        own = {source.module}
        used |= {name for _, name in imports(source)} - own
        used |= {text.partition(":")[0] for text in _strings(source)} - own
    for source in code:
        if not source.path.endswith(("__init__.py", "__main__.py")) and source.module not in used:
            yield source.at(1, "no other module uses this one")


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and name of all that is imported; `from a import b` gives both a and a.b."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _strings(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
