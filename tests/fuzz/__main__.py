"""`python -m tests.fuzz --count 1000000`: bodies through reading, splicing, continuing and warming.

Only an error that clients are told may come of them. What ends otherwise is printed and kept.
"""

import argparse
import os
import sys
import time
import traceback
from random import Random

from kvproxy.core.continuation import continuation_of
from kvproxy.core.dialects import dialect_of
from kvproxy.core.errors import ProxyError
from kvproxy.core.hot_prefixes import HotPrefixes
from kvproxy.core.passing import model_of
from kvproxy.core.turn import TurnReader, apply
from tests.fuzz.bodies import Case, corpus, keep, mutated
from tests.support.makers import make_reader

_BROKE = ProxyError("upstream_broke", "gone")
_ALIVE = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    asked = parser.parse_args()
    random, cases = Random(asked.seed), corpus()
    reader, hot = make_reader(max_points=200), HotPrefixes(2**20)
    refused = crashed = 0
    began = time.monotonic()
    for number in range(asked.count):
        case = mutated(random, cases)
        try:
            taken = read(reader, hot, case)
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            crashed += 1
            traceback.print_exc()
            keep(case, f"crashed, seed {asked.seed}, number {number}")
        else:
            refused += not taken
            # What was taken is where others begin, so that they grow odd and stay readable.
            if taken and len(cases) < _ALIVE:
                cases.append(case)
            elif taken:
                cases[random.randrange(len(cases))] = case
    took_s = time.monotonic() - began
    came = f"{refused} refused, {crashed} CRASHED"
    print(f"seed {asked.seed}: {asked.count} bodies in {took_s:.0f} s, {came}")
    return 1 if crashed else 0


def read(reader: TurnReader, hot: HotPrefixes, case: Case) -> bool:
    """Whether it was taken."""
    dialect = dialect_of("POST", case.path)
    assert dialect is not None
    model_of(case.body, "application/json")
    try:
        turn = reader.read(dialect, "", case.body)
    except ProxyError:
        return False
    body = apply(case.body, turn.splices)
    hot.used(turn, case.path, body, 0.0)
    hot.used(turn, case.path, body, 0.0)
    flow = continuation_of(turn)
    if flow is not None:
        flow.feed(b'data: {"choices":[{"index":0,"text":"a","delta":{"content":"a"}}]}\n\n')
        flow.resume(_BROKE, body)
    return True


if __name__ == "__main__":
    sys.exit(main())
