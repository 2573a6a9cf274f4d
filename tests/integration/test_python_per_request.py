"""How much Python a request may take: budgets in bytecodes and calls, never in time.

`python -m tests.benchmark.count W1` shows where they go.
"""

import pytest
import uvloop

from tests.benchmark.count import run
from tests.benchmark.workers.count import COUNT
from tests.benchmark.workers.count import counted as hop_counted

# Bytecodes of CPython 3.11 (later versions run fewer), and calls of Python functions and of C.
BUDGETS = {
    "W1": (9_620, 330, 268),
    "W2": (12_500, 400, 415),
    "W2-first": (46_500, 840, 2_300),
    "W2-unsaid": (10_900, 350, 365),
    "W2-full": (15_300, 435, 520),
    # Some that llhttp ran before, in more time, are counted here.
    "W3": (81, 1.3, 8.3),
    "W1-traced": (12_300, 424, 362),
}


@pytest.mark.parametrize("workload", BUDGETS)
def test_a_request_stays_within_its_budget(workload: str) -> None:
    # What runs by the clock falls into a run on a slow machine: into two seldom.
    for _ in range(2):
        counting, count = run(workload)
        counters = counting.opcodes, counting.calls, counting.c_calls
        spent = tuple(counter.total() / count for counter in counters)
        print(f"{workload}: {spent[0]:.0f} bytecodes, {spent[1]:.0f} calls, {spent[2]:.0f} of C")
        if all(used <= budget for used, budget in zip(spent, BUDGETS[workload], strict=True)):
            return
    pytest.fail(f"{spent} of {BUDGETS[workload]}\n{counting.table(count)}")


def test_the_hop_takes_little_beside_the_deciding() -> None:
    """A worker's part of a small request, and the placement process's, which decides and settles
    as one process does."""
    asking, placing = uvloop.run(hop_counted())
    spent = [counting.opcodes.total() / COUNT for counting in (asking, placing)]
    print("worker {:.0f}, placement {:.0f} bytecodes".format(*spent))
    assert spent[0] <= 1_150
    assert spent[1] <= 4_300
