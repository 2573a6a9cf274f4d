"""Command `calibrate`: measures what a model's work costs on the device at hand."""

import json
from pathlib import Path

import click
from click.core import ParameterSource

from loadgen.calibration import report, result
from loadgen.calibration.model_shape import ModelShape
from loadgen.calibration.plan import Plan
from loadgen.calibration.records import KV_BYTES, Options
from loadgen.cli_types import COUNT

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--model-config", required=True, type=_FILE,
              help="config.json of a model: its sizes alone are used.")  # fmt: skip
@click.option("--dtype", default="bf16", type=click.Choice(["bf16", "fp16", "fp32"]),
              show_default=True, help="Of weights and computation.")  # fmt: skip
@click.option("--kv-dtype", default="bf16", type=click.Choice(["bf16", "fp16", "fp32", "fp8"]),
              show_default=True, help="Of the KV that is kept and copied.")  # fmt: skip
@click.option("--max-context", default="128Ki", type=COUNT, show_default=True)
@click.option("--device", default=None, help="cuda or cpu; by default a GPU if there is one.")
@click.option("--repeats", default=5, type=click.IntRange(1, 1000), show_default=True,
              help="Of each measurement; medians are reported.")  # fmt: skip
@click.option("--memory-utilization", default=0.9, type=click.FloatRange(0.01, 1),
              show_default=True, help="Share of the device's memory an engine takes.")  # fmt: skip
@click.option("--fuse/--no-fuse", default=True, show_default=True,
              help="Compile chains of element-wise kernels, as engines do.")  # fmt: skip
@click.option("--seed", default=0, show_default=True)
@click.option("--smoke", "only_smoke", is_flag=True,
              help="Only see whether the device can do it, and does it right.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path),
              help="Write everything here: a preset for emulate, simulate and serve.")  # fmt: skip
def calibrate(
    *,
    model_config: Path,
    device: str | None,
    memory_utilization: float,
    only_smoke: bool,
    json_file: Path | None,
    **options: object,
) -> None:
    """Measure prefill, decode and KV copies of a model on this device, and when a tier pays.

    The model is built from its config with random weights; nothing is downloaded. Needs torch
    (`pip install 'kvproxy[calibrate]'`).
    """
    try:
        import torch  # noqa: PLC0415  # hundreds of megabytes that no other command needs
    except ImportError as error:
        raise click.ClickException("torch is missing: pip install 'kvproxy[calibrate]'") from error
    from loadgen.calibration import run, smoke  # noqa: PLC0415

    try:
        shape = ModelShape.from_config(json.loads(model_config.read_text()))
        Plan.up_to(options["max_context"])  # type: ignore[arg-type]  # click checked the types
    except ValueError as error:
        raise click.ClickException(f"{model_config}: {error}") from error
    chosen = Options(
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        **options,  # type: ignore[arg-type]  # click checked the types
    )
    if only_smoke:
        if not smoke.smoke(shape, chosen, click.echo):
            raise click.ClickException("something here computes wrong results; see above")
        return
    try:
        measured = run.calibrate(shape, chosen, click.echo)
    except torch.OutOfMemoryError as error:
        raise click.ClickException(f"the device's memory is too small: {error}") from error
    laws = result.laws_of(measured)
    kv_bytes = shape.kv_bytes_per_token(KV_BYTES[chosen.kv_dtype])
    hbm = result.hbm_tokens(shape, chosen, measured, memory_utilization)
    costs = result.tier_costs(measured, laws, kv_bytes, hbm)
    if json_file is not None:
        found = result.as_json(
            _command(), shape=shape, options=chosen, measured=measured, laws=laws, costs=costs
        )
        json_file.write_text(json.dumps(found, indent=1) + "\n")
    click.echo(report.report(shape, measured, laws, costs))


def _command() -> str:
    """What was asked for, without where the answer went: the file may travel."""
    ctx = click.get_current_context()
    words = ["kvproxy calibrate"]
    for option in ctx.command.params:
        name = option.name or ""
        given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name != "json_file":
            value = ctx.params[name]
            no = value is False and bool(option.secondary_opts)
            words.append(option.secondary_opts[0] if no else option.opts[0])
            words += [] if isinstance(value, bool) else [str(value)]
    return " ".join(words)
