from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.calibration.fit import (
    DecodeLaw,
    LoadLaw,
    PrefillLaw,
    fit_decode,
    fit_load,
    fit_prefill,
    least_squares,
    residuals,
)

NEW, CONTEXT = (512, 2048, 8192), (0, 4096, 32_768, 120_000)
SECONDS = st.floats(1e-9, 1.0)


@given(SECONDS, st.floats(1e-7, 1e-3), st.floats(1e-13, 1e-7))
def test_an_exact_law_is_found(base_s: float, s_per_tok: float, s_per_tok2: float) -> None:
    law = PrefillLaw(base_s, s_per_tok, s_per_tok2)
    found = fit_prefill([(n, c, law.step_s(n, c)) for n, c in product(NEW, CONTEXT)])
    for n, c in product(NEW, CONTEXT):
        assert found.step_s(n, c) == pytest.approx(law.step_s(n, c), rel=1e-3)


def test_decode_and_load_laws_are_found() -> None:
    decode, load = DecodeLaw(0.004, 5e-5, 3e-8), LoadLaw(2e-4, 2.5e-6)
    steps = [(b, c, decode.seconds(b, c)) for b, c in product((1, 8, 64), (1000, 30_000))]
    found = fit_decode(steps)
    assert (found.step_s, found.seq_s, found.kv_s_per_tok) == pytest.approx((0.004, 5e-5, 3e-8))
    loads = fit_load([(n, load.seconds(n)) for n in (256, 4096, 32_768)])
    assert (loads.start_s, loads.s_per_tok) == pytest.approx((2e-4, 2.5e-6))


def test_no_term_is_negative_and_the_needed_one_is_there() -> None:
    # Falling with the tokens: only a negative rate would fit.
    falling = fit_load([(256, 1.0), (512, 0.5), (1024, 0.25)])
    assert falling.s_per_tok > 0 <= falling.start_s
    flat = fit_prefill([(n, c, 0.01) for n, c in product(NEW, CONTEXT)])
    assert flat.s_per_tok > 0
    assert min(flat.base_s, flat.s_per_tok2) >= 0


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS), min_size=3, max_size=8))
def test_no_single_coefficient_can_be_moved_for_the_better(
    rows: list[tuple[float, float, float]],
) -> None:
    points = [(seconds, (1.0, x, y)) for seconds, x, y in rows]

    def error(found: list[float]) -> float:
        return sum(
            (sum(a * b for a, b in zip(found, columns, strict=True)) / seconds - 1) ** 2
            for seconds, columns in points
        )

    best = least_squares(points, needed=1)
    for index, factor in product(range(3), (0.9, 1.1)):
        moved = list(best)
        moved[index] *= factor
        assert error(moved) >= error(best) * (1 - 1e-6) - 1e-9


def test_residuals_are_relative_to_what_was_measured() -> None:
    found = residuals([(1.1, 1.0), (1.0, 2.0), (3.0, 3.0)])
    assert found.each == pytest.approx((0.1, -0.5, 0.0))
    assert found.median_abs == pytest.approx(0.1)
    assert found.max_abs == 0.5


def test_a_prompt_is_its_steps() -> None:
    law = PrefillLaw(0.003, 25e-6, 1e-9)
    steps = sum(law.step_s(min(8192, 20_000 - at), at) for at in range(0, 20_000, 8192))
    assert law.prompt_s(20_000, 0, 8192) == pytest.approx(steps)
