"""How much Python a request may take: budgets in bytecodes and calls, never in time.

`python -m tests.benchmark.count W1` shows where they go.
"""

import pytest

from tests.benchmark.count import run

# Bytecodes of CPython 3.11 (later versions run fewer), and calls of Python functions and of C.
BUDGETS = {
    "W1": (9_600, 330, 268),
    "W2": (13_200, 420, 445),
    "W2-first": (60_000, 840, 3_000),
    "W3": (76, 1.3, 3.7),
    "W1-traced": (12_300, 424, 362),
}


@pytest.mark.parametrize("workload", BUDGETS)
def test_a_request_stays_within_its_budget(workload: str) -> None:
    counting, count = run(workload)
    spent = tuple(
        counter.total() / count for counter in (counting.opcodes, counting.calls, counting.c_calls)
    )
    print(f"{workload}: {spent[0]:.0f} bytecodes, {spent[1]:.0f} calls, {spent[2]:.0f} of C")
    within = [used <= budget for used, budget in zip(spent, BUDGETS[workload], strict=True)]
    assert all(within), f"{spent} of {BUDGETS[workload]}\n{counting.table(count)}"
