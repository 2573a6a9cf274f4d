"""What an SGLang replica shows of itself where vLLM shows something else: /server_info, /metrics.

The rest of the personality is in its KV events (block_events) and in what is not there.
"""

from loadgen.emulator.publisher import KvPublisher
from loadgen.emulator.settings import EmulatorSettings
from loadgen.engine_model import Gauges

SGLANG_VERSION = "0.5.23"  # the version whose wire format is reproduced


def server_info(settings: EmulatorSettings, publisher: KvPublisher | None) -> dict[str, object]:
    info: dict[str, object] = {
        "version": SGLANG_VERSION,
        "served_model_name": settings.model,
        "page_size": settings.block_size,
        "kv_events": None,
    }
    if publisher is not None:
        info["kv_events"] = {
            "publisher": "zmq",
            "endpoint_host": "*",
            "endpoint_port_base": publisher.port,
            "replay_endpoint_port_base": publisher.replay_port,
            "topic": publisher.topic,
            "block_size": settings.block_size,
            "dp_size": 1,
        }
    return info


def metrics_page(settings: EmulatorSettings, gauges: Gauges) -> bytes:
    """The figures that routers read."""
    pages = settings.hbm_tokens // settings.block_size
    model = f'model_name="{settings.model}"'
    figures = {
        "num_running_reqs": gauges.running,
        "num_queue_reqs": gauges.waiting,
        "max_total_num_tokens": pages * settings.block_size,
    }
    lines = []
    for name, value in figures.items():
        lines += [f"# TYPE sglang:{name} gauge", f"sglang:{name}{{{model}}} {float(value)}"]
    labels = f'{model},num_pages="{pages}",page_size="{settings.block_size}"'
    lines += [
        "# TYPE sglang:cache_config_info gauge",
        f"sglang:cache_config_info{{{labels}}} 1.0",
        "",
    ]
    return "\n".join(lines).encode()
