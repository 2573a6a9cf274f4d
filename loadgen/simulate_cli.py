"""`kvproxy simulate`: policies over a trace set in virtual time."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import click
import orjson
from click.core import ParameterSource
from rich.console import Console

from kvproxy.core.policies import PolicyName
from kvproxy.core.tier_costs import TierCosts
from loadgen.cli_types import COUNT, DURATION
from loadgen.engine_model import EngineLimits, EngineRates
from loadgen.preset_file import costs_of, preset_file
from loadgen.schedule import Timing
from loadgen.simulate import disagg as disagg_grid
from loadgen.simulate.compare import compare, table
from loadgen.simulate.decision_log import LogError, read
from loadgen.simulate.disagg import disagg_table, run_disagg
from loadgen.simulate.grid import (
    ARMS,
    CONVERSATIONS,
    HBM_TOKENS,
    REPLICAS,
    Axes,
    grid_table,
    run_grid,
)
from loadgen.simulate.measured import measured_crossover, measured_table
from loadgen.simulate.presets import (
    LOADS,
    MI300X_MINIMAX,
    SEEDS,
    USERS,
    crossover,
    crossover_table,
    play,
    preset_table,
)
from loadgen.simulate.prompts import IDS_END
from loadgen.simulate.replay import compare_replayed
from loadgen.simulate.run import Arm, Setup, TooShortError
from loadgen.traces.model import Trace, Turn
from loadgen.traces_cli import NO_TRACES, load_or_explain, loaded

_TRACES = click.Path(exists=True, path_type=Path)
_NAMES = ", ".join(PolicyName)


@click.command()
@click.option("--traces", type=_TRACES, help="Directory of trace files, or one.")
@click.option("--replay-log", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Decision log of kvproxy (decisions.path) to replay in place of traces: the "
              "same prompts at the same times, on as many replicas of the same size unless "
              "--replicas and --hbm-tokens say otherwise.")  # fmt: skip
@click.option("--policy", "policies", multiple=True, default=("seconds",), show_default=True,
              help=f"Arm to run; repeat to compare: {_NAMES}. NAME+queue holds work back as "
              "`seconds` does, NAME-queue does not.")  # fmt: skip
@click.option("--conversations", default=32, type=click.IntRange(1), show_default=True,
              help="Conversations alive at a time.")  # fmt: skip
@click.option("--replicas", default=4, type=click.IntRange(1, 4096), show_default=True)
@click.option("--hbm-tokens", default="1M", type=COUNT, show_default=True,
              help="Prefix cache of each replica.")  # fmt: skip
@click.option("--dram-tokens", default="0", type=COUNT, show_default=True,
              help="DRAM tier behind each cache.")  # fmt: skip
@click.option("--prefill-tok-s", default="10k", type=COUNT, show_default=True)
@click.option("--decode-step-s", default=0.015, type=float, show_default=True)
@click.option("--attn-s-per-tok2", default=0.0, show_default=True,
              help="Prefill seconds per token and token of its context.")  # fmt: skip
@click.option("--decode-seq-s", default=0.0, show_default=True,
              help="Decode seconds per sequence of a step.")  # fmt: skip
@click.option("--decode-kv-s-per-tok", default=0.0, show_default=True,
              help="Decode seconds per token of context.")  # fmt: skip
@click.option("--step-base-s", default=0.0, show_default=True, help="Any step takes this too.")
@click.option("--dram-tok-s", default=200_000.0, show_default=True, help="DRAM load rate.")
@click.option("--transfer-tok-s", default=400_000.0, show_default=True,
              help="Rate of KV between replicas.")  # fmt: skip
@preset_file
@click.option("--disagg", is_flag=True,
              help="Compare computing prompts apart with whole requests: 32, 64 and 128 "
              "conversations on 4 and 8 replicas, or as given.")  # fmt: skip
@click.option("--tiers", is_flag=True,
              help="With --preset-file: one replica with HBM alone, and with --dram-tokens behind "
              "it, for growing numbers of users.")  # fmt: skip
@click.option("--max-num-batched-tokens", default="8192", type=COUNT, show_default=True)
@click.option("--fluid", is_flag=True,
              help="Engines whose decodes do not slow prefill.")  # fmt: skip
@click.option("--duration", type=DURATION,
              help="Virtual time; conversations are recycled.")  # fmt: skip
@click.option("--until-empty", is_flag=True, help="Play every trace once instead (the default).")
@click.option("--max-context", default="128k", type=COUNT, show_default=True)
@click.option("--warm-prefix-pct", default=0.5, type=click.FloatRange(0, 1), show_default=True)
@click.option("--think-cap", default="600s", type=DURATION, show_default=True)
@click.option("--oracle", is_flag=True,
              help="Let the router see what engines really hold.")  # fmt: skip
@click.option("--unnamed", is_flag=True,
              help="Clients name no conversation; prompts alone tell them apart.")  # fmt: skip
@click.option("--grid", "whole_grid", is_flag=True,
              help="Run 32 and 128 conversations on 2, 4 and 8 replicas of 250k to 2M tokens, or "
              "those of --conversations, --replicas, --hbm-tokens; without --policy all of "
              "them.")  # fmt: skip
@click.option("--seeds", default=1, type=click.IntRange(1, 100), show_default=True,
              help="Figures of the grid are means over so many seeds.")  # fmt: skip
@click.option("--preset", type=click.Choice([MI300X_MINIMAX]),
              help="Play a published comparison; takes --traces, --json.")  # fmt: skip
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the figures here.")  # fmt: skip
def simulate(
    *,
    traces: Path | None,
    replay_log: Path | None,
    policies: tuple[str, ...],
    max_context: int,
    json_file: Path | None,
    duration: float | None,
    until_empty: bool,
    whole_grid: bool,
    preset: str | None,
    tiers: bool,
    disagg: bool,
    **options: object,
) -> None:
    """Compare policies over recorded conversations without running anything.

    The router's own code places and holds back; engines are modelled. The same seed gives the
    same run.
    """
    if duration is not None and until_empty:
        raise click.UsageError("--duration and --until-empty exclude each other")
    _check_names(policies)
    console = Console(stderr=True)
    # A pipe has no width of its own: a table cut to 80 columns would be of no use in a file.
    out = Console(width=None if sys.stdout.isatty() else 220)
    setup = _setup_of(duration, options)
    if replay_log is not None:
        _replay(replay_log, setup, policies, json_file, out)
        return
    recorded = load_or_explain(traces := _needed(traces), max_context)
    if preset is None:
        setup = _blocks_of(recorded, setup)
        _check_room(_largest(recorded), setup, HBM_TOKENS if whole_grid else ())
    found: object
    with _explained(), console.status("simulating") as status:

        def tell(what: str) -> None:
            status.update(f"simulating {what}")

        if preset is not None:
            found = _play_preset(traces, tell, out)
            shown = None
        elif tiers:
            steps = measured_crossover(recorded, _costs(), setup, tell)
            shown, found = measured_table(setup, steps), [asdict(step) for step in steps]
        elif disagg:
            split = list(run_disagg(recorded, setup, *_disagg_axes(setup), tell))
            shown, found = disagg_table(split), [cell.as_json() for cell in split]
        elif whole_grid:
            names = policies if _is_given("policies") else ARMS
            cells = list(run_grid(recorded, setup, _axes(setup, options), names, tell))
            shown, found = grid_table(cells, names), [cell.as_json() for cell in cells]
        else:
            comparison = compare(recorded, setup, policies, tell)
            shown, found = table(comparison), comparison.as_json()
    if shown is not None:
        out.print(shown)
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except TooShortError as error:
        raise click.ClickException(str(error)) from error


def _turns(traces: Sequence[Trace]) -> list[Turn]:
    """Those of sub-agents too."""
    inner = [turn for trace in traces for agent in trace.sub_agents for turn in agent.turns]
    return [*inner, *(turn for trace in traces for turn in trace.turns)]


def _largest(traces: Sequence[Trace]) -> int:
    """Tokens of the largest request with its answer."""
    return max(turn.input_tokens + max(1, turn.output_tokens) for turn in _turns(traces))


def _blocks_of(traces: Sequence[Trace], setup: Setup) -> Setup:
    """Engines have blocks of the size of the traces' own: their ids say what is shared."""
    sizes = sorted({trace.block_size for trace in traces})
    if len(sizes) > 1:
        raise click.UsageError(f"traces with blocks of several sizes: {sizes}")
    runs = [run for turn in _turns(traces) for run in turn.blocks.runs]
    ends = [(first, first + length) for first, length in runs]
    if any(first < 0 or end > IDS_END for first, end in ends):
        raise click.UsageError(f"block ids must be from 0 to {IDS_END - 1} to be simulated")
    try:
        return replace(setup, limits=replace(setup.limits, block_size=sizes[0]))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _check_room(largest: int, setup: Setup, axis: Sequence[int] = ()) -> None:
    """A request that no engine could hold would wait for ever. `axis` are the sizes of caches to
    try, unless one was given."""
    tokens = setup.limits.hbm_tokens
    if axis and not _is_given("hbm_tokens"):
        tokens = min(axis)
    room = tokens // setup.limits.block_size * setup.limits.block_size
    if largest > room:
        raise click.UsageError(
            f"--hbm-tokens {tokens} cannot hold the largest request with its answer, {largest} "
            "tokens; --max-context leaves out larger ones"
        )


def _setup_of(duration: float | None, options: dict[str, object]) -> Setup:
    try:
        setup = _setup(duration, options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if setup.fluid and setup.limits.dram_tokens:
        raise click.UsageError("--fluid has one tier: leave out --dram-tokens")
    return setup


def _check_names(policies: Sequence[str]) -> None:
    for name in policies:
        try:
            Arm.named(name)
        except ValueError as error:
            raise click.BadParameter(f"{error}; known: {_NAMES}") from error


def _needed(traces: Path | None) -> Path:
    if traces is None:
        raise click.UsageError(f"--traces or --replay-log is needed. {NO_TRACES}")
    return traces


def _replay(
    path: Path, setup: Setup, policies: Sequence[str], json_file: Path | None, out: Console
) -> None:
    """Prints what was recorded and what the policies make of it."""
    if _is_given("traces"):
        raise click.UsageError("--traces and --replay-log exclude each other")
    try:
        recorded = read(path, setup.limits.block_size)
    except LogError as error:
        raise click.ClickException(str(error)) from error
    if not _is_given("replicas"):
        setup = replace(setup, replicas=max(1, recorded.replicas()))
    if not _is_given("hbm_tokens") and recorded.hbm_tokens():
        limits = replace(setup.limits, hbm_tokens=recorded.hbm_tokens())
        setup = replace(setup, limits=limits)
    _check_room(max(each.prompt.tokens + each.output_tokens for each in recorded.arrivals), setup)
    with _explained(), Console(stderr=True).status("replaying") as status:
        comparison = compare_replayed(
            recorded, setup, policies, lambda what: status.update(f"replaying {what}")
        )
    out.print(table(comparison))
    out.print(recorded.told(), highlight=False)
    if recorded.left_out:
        left = f"left out: {recorded.left_out:,} without an answer or with a lost beginning"
        out.print(f"{left}, {recorded.damaged:,} of them damaged lines", highlight=False)
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(comparison.as_json(), option=orjson.OPT_INDENT_2))


def _disagg_axes(setup: Setup) -> tuple[Sequence[int], Sequence[int]]:
    return (
        (setup.conversations,) if _is_given("conversations") else disagg_grid.CONVERSATIONS,
        (setup.replicas,) if _is_given("replicas") else disagg_grid.REPLICAS,
    )


def _is_given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is not ParameterSource.DEFAULT


def _axes(setup: Setup, options: dict[str, object]) -> Axes:
    """The whole grid, but for what the command line fixes."""
    seeds = options["seeds"]
    assert isinstance(seeds, int)
    return Axes(
        conversations=(setup.conversations,) if _is_given("conversations") else CONVERSATIONS,
        replicas=(setup.replicas,) if _is_given("replicas") else REPLICAS,
        hbm_tokens=(setup.limits.hbm_tokens,) if _is_given("hbm_tokens") else HBM_TOKENS,
        seeds=seeds,
    )


def _costs() -> TierCosts:
    costs = costs_of(click.get_current_context())
    if costs is None:
        raise click.UsageError("--tiers needs --preset-file")
    return costs


def _play_preset(traces: Path, tell: Callable[[str], None], out: Console) -> object:
    """Prints as it goes; returns what --json writes."""
    played = []
    for load in LOADS:
        tell(load.name)
        played.append(play(loaded(traces, load.max_context), load, SEEDS))
    stress = LOADS[-1]
    tell("fixed users")
    steps = crossover(loaded(traces, stress.max_context), stress, USERS, SEEDS)
    out.print(preset_table(played), crossover_table(stress.hbm_tokens, steps))
    return {"loads": [one.as_json() for one in played], "users": [asdict(step) for step in steps]}


def _setup(duration: float | None, options: dict[str, object]) -> Setup:
    """click hands options over untyped; their types are those of the declarations above."""
    given: dict[str, float] = {k: v for k, v in options.items() if isinstance(v, int | float)}
    return Setup(
        conversations=int(given["conversations"]),
        replicas=int(given["replicas"]),
        rates=EngineRates(
            prefill_tok_s=given["prefill_tok_s"],
            attn_s_per_tok2=given["attn_s_per_tok2"],
            decode_step_s=given["decode_step_s"],
            decode_seq_s=given["decode_seq_s"],
            decode_kv_s_per_tok=given["decode_kv_s_per_tok"],
            dram_tok_s=given["dram_tok_s"],
            transfer_tok_s=given["transfer_tok_s"],
            step_base_s=given["step_base_s"],
        ),
        limits=EngineLimits(
            hbm_tokens=int(given["hbm_tokens"]),
            dram_tokens=int(given["dram_tokens"]),
            block_size=64,
            max_num_batched_tokens=int(given["max_num_batched_tokens"]),
        ),
        fluid=bool(given["fluid"]),
        duration_s=duration,
        timing=Timing(think_cap_s=given["think_cap"]),
        warm_prefix_pct=given["warm_prefix_pct"],
        seed=int(given["seed"]),
        oracle=bool(given["oracle"]),
        unnamed=bool(given["unnamed"]),
    )
