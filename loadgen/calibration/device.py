"""What the device is and how fast it was running: the names and clocks a figure is worth with."""

import platform
import subprocess
from functools import partial
from typing import Any

import torch

from loadgen.calibration.timing import Stopwatch

_ASKED = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks.max.sm"


def describe(device: Any) -> dict[str, object]:
    """Names, versions and memory; `memory_bytes` 0 where the device does not tell."""
    found: dict[str, object] = {
        "name": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "memory_bytes": 0,
    }
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def clocks(device: Any) -> dict[str, str]:
    """What nvidia-smi says right now; empty where there is none."""
    if torch.device(device).type != "cuda":
        return {}
    command = ["nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    line = answer.stdout.splitlines()[0]
    return dict(zip(_ASKED.split(","), (word.strip() for word in line.split(",")), strict=True))


def matmul_flops_per_s(device: Any, dtype: Any, watch: Stopwatch) -> float:
    """Of a large square product of noise: the ceiling that a prefill is held against."""
    size = 8192 if watch.on_gpu else 256
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / watch.time(partial(torch.mm, left, right)).median_s
