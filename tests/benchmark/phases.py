"""Where a request's CPU time goes while requests are served: `python -m tests.benchmark.phases W2`.

One kvproxy, the mock engines and the client of `make bench`. Time is the thread's own, inside what
is named and outside what is named within it; the rest is the loop, the kernel and what has no name
here. Looking at the clock so often takes a twentieth.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

from tests.benchmark.relay.__main__ import (
    PORT,
    PYTHON,
    REPLICAS,
    cpu_s,
    measure,
    running,
    until_it_answers,
)

_DUMP_S = 0.2


class Phases:
    """Seconds and calls by name."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}
        # Of each that is open, the seconds of what was opened in it.
        self._inner: list[float] = []

    def _timed(self, name: Callable[[Any], str], call: Callable[[], Any], *, calls: int) -> Any:
        began, found = time.thread_time(), None
        self._inner.append(0.0)
        try:
            found = call()
            return found
        finally:
            took = time.thread_time() - began
            inner = self._inner.pop()
            if self._inner:
                self._inner[-1] += took
            entry = self.spent.setdefault(name(found), [0, 0.0])
            entry[0] += calls
            entry[1] += took - inner

    def watch(self, owner: type, method: str, name: str | Callable[[Any], str]) -> None:
        """`name` may tell it by what it returned."""
        plain = getattr(owner, method)
        named = name if callable(name) else lambda _: name

        def timed(*args: Any, **options: Any) -> Any:
            return self._timed(named, lambda: plain(*args, **options), calls=1)

        setattr(owner, method, timed)

    def watch_steps(self, owner: type, method: str, name: str) -> None:
        """Of a coroutine what it runs itself, not what it waits."""
        plain, phases = getattr(owner, method), self

        class Steps:
            def __init__(self, waited: Awaitable[Any]) -> None:
                self.waited = waited

            def __await__(self) -> Generator[Any, Any, Any]:
                steps = self.waited.__await__()
                phases.spent.setdefault(name, [0, 0.0])[0] += 1
                while True:
                    try:
                        waits = phases._timed(lambda _: name, lambda: next(steps), calls=0)
                    except StopIteration as ended:
                        return ended.value
                    yield waits

        async def timed(*args: Any, **options: Any) -> Any:
            return await Steps(plain(*args, **options))

        setattr(owner, method, timed)


def watched() -> Phases:
    from kvproxy.adapters.http1.connection import ClientConnection
    from kvproxy.adapters.http1.incoming import Incoming
    from kvproxy.adapters.http1.link import Link
    from kvproxy.adapters.http1.passage import Passage
    from kvproxy.adapters.local_placer import LocalPlacer
    from kvproxy.app import App
    from kvproxy.core.turn import Turn, TurnReader
    from kvproxy.proxy import Proxy

    def which(turn: Turn | None) -> str:
        later = turn is not None and turn.resumed_at
        return "reading a later turn" if later else "reading a whole prompt"

    phases = Phases()
    phases.watch(ClientConnection, "data_received", "taking the request")
    phases.watch(Incoming, "body", "joining its body")
    phases.watch(TurnReader, "read", which)
    phases.watch_steps(LocalPlacer, "place", "choosing and reserving")
    phases.watch(Link, "ask", "sending it on")
    phases.watch(Passage, "data_received", "taking the answer")
    phases.watch(ClientConnection, "write", "sending that on")
    phases.watch(LocalPlacer, "first_token", "noting the first token")
    phases.watch(LocalPlacer, "finish", "settling and learning")
    phases.watch(App, "_observe", "metrics, explanations")
    phases.watch_steps(Proxy, "handle", "all between (proxy.py and what it calls)")
    return phases


def serve(out: Path) -> None:
    phases = watched()

    def dump() -> None:
        while True:
            time.sleep(_DUMP_S)
            aside = out.with_suffix(".new")
            aside.write_text(json.dumps(phases.spent.copy()))
            os.replace(aside, out)

    threading.Thread(target=dump, daemon=True).start()
    from kvproxy.cli import main as kvproxy

    sys.argv[0] = "kvproxy"
    kvproxy()


def main(workload: str = "W1") -> None:
    flags = " ".join(f"--replica http://127.0.0.1:{port}" for port in REPLICAS)
    mock = f"{PYTHON} -m tests.benchmark.relay.mock {' '.join(map(str, REPLICAS))}"
    with tempfile.TemporaryDirectory() as folder, running(mock, 1):
        until_it_answers(REPLICAS[-1], "/v1/models", b"mock")
        out = Path(folder, "phases.json")
        command = f"{PYTHON} -m tests.benchmark.phases --serve {out} serve --port {PORT} {flags}"
        with running(f"{command} --no-log-access", 0) as pid:
            until_it_answers(PORT, "/v1/models", b"mock")
            before = cpu_s(pid)
            seen = measure(pid, workload)
            used = cpu_s(pid) - before
            time.sleep(3 * _DUMP_S)
            spent: dict[str, list[float]] = json.loads(out.read_text())
    count = seen["requests"]
    print(f"{workload}: {used / count * 1e6:,.0f} µs a request\n")
    print("| | calls a request | µs a call | µs a request |\n|---|---|---|---|")
    left = used
    for name, (calls, seconds) in sorted(spent.items(), key=lambda entry: -entry[1][1]):
        left -= seconds
        each, all_ = seconds / max(calls, 1) * 1e6, seconds / count * 1e6
        print(f"| {name} | {calls / count:.2f} | {each:,.1f} | {all_:,.1f} |")
    print(f"| loop, kernel and the rest | | | {left / count * 1e6:,.1f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        path = Path(sys.argv.pop(2))
        del sys.argv[1]
        serve(path)
    else:
        main(*sys.argv[1:])
