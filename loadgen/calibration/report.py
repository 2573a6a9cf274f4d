"""The calibration as text: what was measured, how well the laws hold, what follows."""

from collections.abc import Iterable, Sequence

from kvproxy.core.tier_costs import TierCosts
from loadgen.calibration.break_even import shortest_worth_loading
from loadgen.calibration.fit import LoadLaw, Residuals
from loadgen.calibration.model_shape import ModelShape
from loadgen.calibration.records import Measured
from loadgen.calibration.result import (
    Laws,
    as_prefixes,
    fitted_from,
    returning_tokens,
    store_slowdown,
    tiers_pay,
)


def report(shape: ModelShape, measured: Measured, laws: Laws, costs: TierCosts) -> str:
    sections = (
        _head(shape, measured, costs),
        _prefill(shape, measured, laws),
        _decode(measured, laws),
        _loads(measured, laws),
        _break_even(measured, laws, costs),
    )
    return "\n\n".join("\n".join(lines) for lines in sections)


def _head(shape: ModelShape, measured: Measured, costs: TierCosts) -> list[str]:
    device, rates = measured.device, measured.rates
    found = [
        (
            f"{shape.model_type}, {shape.parameters / 1e9:.2f}G parameters, "
            f"{measured.weight_bytes / 1e9:.1f} GB of weights, on {device['name']} "
            f"(torch {device['torch']}, CUDA {device['cuda']})"
        ),
        (
            f"matrix product {rates['matmul_flops_per_s'] / 1e12:.0f} TFLOP/s, HBM copy "
            f"{rates['hbm_copy_bytes_per_s'] / 1e9:.0f} GB/s read and written"
        ),
        f"KV {costs.kv_bytes_per_token:,} bytes a token; {costs.hbm_tokens:,} tokens fit in HBM",
        f"attention kernel: {measured.attention}",
    ]
    return found + [
        f"clocks {when}: " + ", ".join(f"{name} {value}" for name, value in seen.items())
        for when, seen in measured.clocks.items()
        if seen
    ]


def _prefill(shape: ModelShape, measured: Measured, laws: Laws) -> list[str]:
    rows = [("new", "context", "ms", "least-most", "law", "TFLOP/s")]
    for row in measured.prefill:
        predicted = laws.prefill.step_s(row.new, row.context)
        time = row.time
        mean = row.context + row.new / 2
        work = row.new * (shape.flops_per_token + shape.attention_flops_per_token2 * mean)
        rows.append((
            f"{row.new:,}",
            f"{row.context:,}",
            f"{1e3 * time.median_s:.2f}",
            f"{1e3 * time.least_s:.2f}-{1e3 * time.most_s:.2f}",
            f"{100 * (predicted / time.median_s - 1):+.0f} %",
            f"{work / time.median_s / 1e12:.0f}",
        ))  # fmt: skip
    law, repeats = laws.prefill, measured.prefill[0].time.repeats
    found = [
        f"Prefill of `new` tokens on a cached context; medians of {repeats}",
        *_table(rows),
        (
            f"law: {1e3 * law.base_s:.2f} ms + new x ({1e6 * law.s_per_tok:.2f} us + "
            f"{1e12 * law.s_per_tok2:.2f} ps x mean context), {_off(laws.prefill_residuals)} "
            f"from {fitted_from(measured)} new tokens on"
        ),
    ]
    for prompt, off in zip(measured.prompts, laws.prompt_residuals.each, strict=True):
        found.append(
            f"a prompt of {prompt.tokens:,} from nothing, in steps of {prompt.chunk:,}: "
            f"{prompt.time.median_s:.3f} s, law {100 * off:+.1f} %"
        )
    places = ", ".join(
        f"{new:,} on {context:,} ({100 * off:+.0f} %)" for new, context, off in laws.broken
    )
    return [*found, f"off by more than 15 %: {places or 'nowhere'}"]


def _decode(measured: Measured, laws: Laws) -> list[str]:
    rows = [("batch", "context", "ms", "least-most", "law")]
    for row in measured.decode:
        time = row.time
        off = laws.decode.seconds(row.batch, row.context) / time.median_s - 1
        spread = f"{1e3 * time.least_s:.2f}-{1e3 * time.most_s:.2f}"
        rows.append((f"{row.batch}", f"{row.context:,}", f"{1e3 * time.median_s:.2f}", spread,
                     f"{100 * off:+.0f} %"))  # fmt: skip
    law = laws.decode
    return [
        "Decode step of a batch, each with its own context",
        *_table(rows),
        (
            f"law: {1e3 * law.step_s:.2f} ms + {1e6 * law.seq_s:.1f} us a sequence + "
            f"{1e9 * law.kv_s_per_tok:.2f} ns a token of context, {_off(laws.decode_residuals)}"
        ),
    ]


def _loads(measured: Measured, laws: Laws) -> list[str]:
    rows = [("layout", "block", "tokens", "ms", "GB/s", "tokens/s")]
    for row in measured.loads:
        seconds = row.time.median_s
        rows.append((row.kind, f"{row.block}", f"{row.tokens:,}", f"{1e3 * seconds:.2f}",
                     f"{row.copied_bytes / seconds / 1e9:.1f}",
                     f"{row.tokens / seconds:,.0f}"))  # fmt: skip
    beside = [("beside a prefill", "block", "alone GB/s", "beside GB/s", "prefill slower by")]
    per_token = measured.loads[0].copied_bytes / measured.loads[0].tokens
    for both in measured.overlaps:
        copied = both.tokens * per_token / 1e9
        beside.append((both.kind, f"{both.block}", f"{copied / both.load_alone_s:.1f}",
                       f"{copied / both.load_s:.1f}",
                       f"{100 * (both.prefill_s / both.prefill_alone_s - 1):+.1f} %"))  # fmt: skip
    laws_found = [
        f"law {kind} {block}: {1e6 * law.start_s:.0f} us + {1e6 * law.s_per_tok:.3f} us a token, "
        f"{_off(left)}"
        for (kind, block), (law, left) in laws.loads.items()
    ]
    return [
        (
            "Pinned host memory to HBM (store: back). chunk: a block at once, then spread; "
            f"page: K and V of each layer apart ({measured.page_copies})"
        ),
        *_table(rows),
        *laws_found,
        *(_table(beside) if measured.overlaps else ["beside a prefill: not measured on a CPU"]),
    ]


def _break_even(measured: Measured, laws: Laws, costs: TierCosts) -> list[str]:
    rows = [("prefix", "load s", "compute s", "compute / load")]
    rows += [
        (
            f"{prefix.tokens:,}",
            f"{prefix.load_s:.4f}",
            f"{prefix.compute_s:.4f}",
            f"{prefix.compute_s / prefix.load_s:.1f}",
        )
        for prefix in as_prefixes(measured, laws, costs)
    ]
    load = LoadLaw(laws.loads["chunk", 256][0].start_s, 1 / costs.dram_tok_s)
    least = shortest_worth_loading(load, laws.prefill, measured.plan.max_context)
    back, slower = returning_tokens(measured), store_slowdown(measured)
    pays = [("DRAM GB", "holds tokens", "pays from working set", "covers", "saves s a turn")]
    for tier in tiers_pay(measured, laws, costs):
        starts = "never" if tier.pays_from_tokens is None else f"{tier.pays_from_tokens:,}"
        pays.append((f"{tier.dram_gb}", f"{tier.holds_tokens:,}", starts,
                     f"{tier.covers_tokens:,}", f"{tier.saved_s:.2f}"))  # fmt: skip
    return [
        "A prefix back in HBM: loaded from DRAM, or computed again",
        *_table(rows),
        f"loading is faster from {least:,} tokens on" if least else "loading is never faster",
        "",
        (
            f"Where a DRAM tier pays: HBM holds {costs.hbm_tokens:,} tokens; a turn comes "
            f"back with {back:,}; writing slows its prefill by {100 * slower:.1f} %"
        ),
        *_table(pays),
    ]


def _off(left: Residuals) -> str:
    return f"off by {100 * left.median_abs:.1f} % (median), {100 * left.max_abs:.1f} % (most)"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
