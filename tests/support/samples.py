"""Samples of a run that never was, for what reads them."""

from loadgen.sample import Sample


def sample(**fields: object) -> Sample:
    """An answered request due at 1 s, first token at 1.5 s, done at 2 s; any field can differ."""
    answered = {
        "conversation": "c-1-0", "trace": "c", "turn": 0, "t_intended": 1.0, "t_sent": 1.1,
        "t_first_token": 1.5, "t_end": 2.0, "ttft_s": 0.5, "ttft_wire_s": 0.4, "itl_s": 0.01,
        "e2e_s": 1.0, "prompt_tokens": 1000, "cached_tokens": 800, "completion_tokens": 50,
        "predicted_cached_tokens": 790, "bound_tokens": 900, "planned_tokens": 1000,
        "trace_tokens": 1000, "output_tokens_asked": 50, "replica": "r1", "status": 200,
    }  # fmt: skip
    return Sample(**answered | fields)  # type: ignore[arg-type]
