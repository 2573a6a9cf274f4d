"""Command `emulate`: vLLM replicas that compute nothing but answer as if they did."""

import asyncio
import logging
import signal
import sys

import click
import uvloop

from loadgen.cli_types import COUNT
from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.emulator.kv_connectors import CONNECTORS
from loadgen.emulator.planted import HELP, Planted
from loadgen.preset_file import preset_file


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    default=8001,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="First port; 0 = any free ones.",
)
@click.option(
    "--replicas",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Replicas, on consecutive ports of one process.",
)
@click.option(
    "--engine",
    default="vllm",
    show_default=True,
    type=click.Choice(["vllm", "sglang"]),
    help="Whose pages and KV events are shown.",
)
@click.option("--model", default="emu", show_default=True, help="Served model name.")
@click.option("--hbm-tokens", default="1M", show_default=True, type=COUNT, help="KV room in HBM.")
@click.option(
    "--dram-tokens",
    default="0",
    show_default=True,
    type=COUNT,
    help="KV room in the DRAM tier; 0 = none.",
)
@click.option("--block-size", default=16, show_default=True, help="Tokens of a KV block.")
@click.option("--prefill-tok-s", default=10_000.0, show_default=True, help="Prefill rate.")
@click.option(
    "--attn-s-per-tok2",
    default=0.0,
    show_default=True,
    help="Attention seconds per token and token of context.",
)
@click.option("--decode-step-s", default=0.015, show_default=True, help="Decode part of a step.")
@click.option("--decode-seq-s", default=0.0, show_default=True, help="... more per sequence.")
@click.option(
    "--decode-kv-s-per-tok",
    default=0.0,
    show_default=True,
    help="... more per token of context.",
)
@click.option("--step-base-s", default=0.0, show_default=True, help="Any step takes this too.")
@preset_file
@click.option("--dram-tok-s", default=200_000.0, show_default=True, help="DRAM load rate.")
@click.option("--max-num-batched-tokens", default="8192", show_default=True, type=COUNT)
@click.option("--max-num-seqs", default=256, show_default=True)
@click.option("--max-model-len", default="1M", show_default=True, type=COUNT)
@click.option(
    "--time-scale", default=1.0, show_default=True, help="Engine seconds in a real second."
)
@click.option(
    "--chunk-interval-s",
    default=0.0,
    show_default=True,
    help="Least real time between two chunks of a stream; 0 = a chunk per token.",
)
@click.option("--tokenizer", type=click.Path(file_okay=False), help="Directory of tokenizer.json.")
@click.option("--seed", default=0, show_default=True, help="Varies the generated text.")
@click.option(
    "--prefix-caching/--no-prefix-caching",
    default=True,
    show_default=True,
    help="Keep blocks of ended requests for others, as vLLM's flag of that name.",
)
@click.option(
    "--kv-events/--no-kv-events",
    default=False,
    show_default=True,
    help="Publish KV events on free ports; GET /kv_event_sources tells them.",
)
@click.option(
    "--lmcache/--no-lmcache",
    default=False,
    show_default=True,
    help="An LMCache coordinator on a free port that knows the DRAM tiers.",
)
@click.option(
    "--responses-stored",
    default=0,
    show_default=True,
    help="Answers of /v1/responses that another can continue; 0 = none, as vLLM's default.",
)
@click.option(
    "--scale-out/--no-scale-out", default=False, show_default=True, help="Open the /render routes."
)
@click.option(
    "--keeps-billing/--drops-billing",
    default=False,
    show_default=True,
    help="Let Claude Code's billing line into the prompt, as vLLM before 0.32 did.",
)
@click.option(
    "--kv-cache-dtype",
    "cache_dtype",
    default="auto",
    show_default=True,
    help="As told by /metrics.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice([fault.value for fault in Planted]),
    help="Plant a misconfiguration, for `kvproxy doctor` to find; repeatable.",
)
@click.option("--list-faults", is_flag=True, help="List the faults that can be planted, and exit.")
@click.option(
    "--kv-connector",
    default="",
    type=click.Choice(["", *CONNECTORS]),
    help="Compute prompts for the others of the fleet, and load them from there, as this does.",
)
@click.option("--transfer-tok-s", default=400_000.0, show_default=True, help="... at this rate.")
@click.option("--access-log/--no-access-log", default=False, show_default=True)
def emulate(
    *, host: str, port: int, replicas: int, faults: tuple[str, ...], list_faults: bool,
    **options: object,
) -> None:  # fmt: skip
    """Emulate vLLM replicas: their HTTP API, timing, prefix cache and metrics, without a GPU."""
    if list_faults:
        for fault, text in HELP.items():
            click.echo(f"{fault:22} {text}")
        return
    options["planted"] = frozenset(map(Planted, faults))
    if options["access_log"]:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        settings = EmulatorSettings(**options)  # type: ignore[arg-type]  # click checked the types
        fleet = Fleet(settings, replicas, host, port)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(fleet))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}: {error}") from error


async def _serve(fleet: Fleet) -> None:
    """Listen until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await fleet.start()
    for url in fleet.urls:
        click.echo(f"ready {url}")
    if fleet.coordinator is not None:
        click.echo(f"coordinator {fleet.coordinator.url}")
    sys.stdout.flush()
    await stopped.wait()
    await fleet.stop()
