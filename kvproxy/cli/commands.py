"""The table of commands, and the entry point of the `kvproxy` script."""

import click

from kvproxy.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "serve": Lazy("kvproxy.cli.serve:serve", "Run the proxy."),
    "epp": Lazy("kvproxy.cli.epp:epp", "Decide for an Envoy gateway."),
    "check-config": Lazy("kvproxy.cli.check_config:check_config", "Check a settings file."),
    "top": Lazy("kvproxy.cli.top:top", "Watch a running proxy in the terminal."),
    "explain": Lazy("kvproxy.cli.explain:explain", "Say why a prompt missed the cache."),
    "doctor": Lazy("kvproxy.cli.doctor:doctor", "Find what keeps replicas from their caches."),
    "sizing": Lazy("kvproxy.cli.sizing:sizing", "Say how much KV fits HBM and DRAM."),
    "metrics": Lazy("kvproxy.cli.metrics:metrics", "List all metrics, as Markdown."),
    "key": Lazy("kvproxy.cli.key:key", "Make an API key."),
    "version": Lazy("kvproxy.cli.version:version", "Show versions."),
    "loadgen": Lazy("loadgen.cli:loadgen", "Replay agentic traces against an endpoint."),
    "emulate": Lazy("loadgen.cli:emulate", "Stand in for an engine."),
    "simulate": Lazy("loadgen.simulate_cli:simulate", "Compare policies in virtual time."),
    "calibrate": Lazy("loadgen.calibration.cli:calibrate", "Measure a model's costs on a device."),
    "demo": Lazy("loadgen.demo:demo", "See kvproxy beside round robin, on this machine."),
}

_EPILOG = """\b
Shell completion, once per shell:
  bash  eval "$(_KVPROXY_COMPLETE=bash_source kvproxy)"   in ~/.bashrc
  zsh   eval "$(_KVPROXY_COMPLETE=zsh_source kvproxy)"    in ~/.zshrc
  fish  _KVPROXY_COMPLETE=fish_source kvproxy | source    in ~/.config/fish/config.fish
"""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def main() -> None:
    """Send each turn of a conversation to the replica that holds its KV cache.

    Start with `kvproxy demo`, or `kvproxy serve --replica http://host:8000`.
    """
