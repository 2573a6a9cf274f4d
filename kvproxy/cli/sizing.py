"""`kvproxy sizing`: KV bytes of a token, and what fits HBM and DRAM."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kvproxy.core.model_kv import DTYPE_BYTES, KvShape, ModelConfigError, kv_shape
from kvproxy.core.sizing import Memory, Need, Sizing, need, size
from kvproxy.core.units import parse_count

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _count(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_count(value.removesuffix("B"))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


def _bytes(*names: str, text: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(*names, callback=_count, metavar="BYTES", help=text, **more)


@click.command()
@click.option("--model-config", "file", type=_FILE, required=True, help="config.json of the model.")
@_bytes("--hbm", required=True, text="HBM of one replica over all its GPUs: 192GB, 2Ti.")
@_bytes("--dram", default="0", text="DRAM for a tier behind it, of one replica.")
@_bytes("--weights", default="0", text="The model's weights; 0: --hbm is what is left for KV.")
@click.option(
    "--utilization",
    type=click.FloatRange(0.1, 1.0),
    help="vLLM's --gpu-memory-utilization; default 0.92 with --weights, else 1.",
)
@click.option("--kv-dtype", type=click.Choice(sorted(DTYPE_BYTES)), help="Default: the model's.")
@click.option("--tensor-parallel", default=1, show_default=True, type=click.IntRange(1, 1024))
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(1, 1024))
@click.option("--conversations", default=32, show_default=True, type=click.IntRange(1))
@click.option("--context", default="100k", show_default=True, callback=_count)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def sizing(*, file: Path, as_json: bool, **given: Any) -> None:
    """Say how many tokens of KV fit, and which tier a working set needs.

    The working set is --conversations times --context: those that come back within minutes.
    """
    try:
        shape = kv_shape(json.loads(file.read_bytes()))
    except (ValueError, ModelConfigError) as error:
        raise click.UsageError(f"{file}: {error}") from error
    utilization = given["utilization"] or (0.92 if given["weights"] else 1.0)
    memory = Memory(given["hbm"], given["dram"], given["weights"], utilization)
    sized = size(shape, memory, given["kv_dtype"], given["tensor_parallel"])
    needed = need(sized, given["conversations"], given["context"], given["replicas"])
    if as_json:
        click.echo(json.dumps(sized._asdict() | {"need": needed._asdict()}, indent=2))
        return
    click.echo(_text(shape, sized, needed, given))


def _text(shape: KvShape, sized: Sizing, needed: Need, given: dict[str, Any]) -> str:
    dtype = given["kv_dtype"] or shape.dtype
    lines = [
        f"KV of a token        {sized.token_bytes:,.0f} bytes ({dtype}, {shape.layers} layers)",
        f"fits HBM             {sized.hbm_tokens:,} tokens a replica",
        f"fits DRAM            {sized.dram_tokens:,} tokens a replica",
    ]
    if sized.fixed_bytes:
        lines.append(f"and a conversation   {sized.fixed_bytes / 1e6:,.0f} MB for its windows")
    if not sized.token_bytes:
        lines.append("No layer keeps KV of the whole context: what is kept does not grow with it.")
        return "\n".join(lines)
    of = f"{given['conversations']} conversations of {given['context']:,}"
    gigabytes = round(given["dram"] / 2**30)
    lines += [
        f"working set          {needed.tokens:,} tokens ({of})",
        f"the pool holds       {needed.hbm_tokens:,} in HBM, {needed.dram_tokens:,} in DRAM",
        "",
        needed.advice,
    ]
    if dtype in ("bfloat16", "float16", "half"):
        lines.append("With --kv-cache-dtype fp8 the same memory holds twice the tokens.")
    if gigabytes:
        lines.append(f"For that DRAM: LMCACHE_MAX_LOCAL_CPU_SIZE={gigabytes}, or --l1-size-gb.")
    return "\n".join(lines)
