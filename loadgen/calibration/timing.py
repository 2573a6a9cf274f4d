"""Times of work on a device: medians of repeats, by the device's own clock where it has one."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch

from loadgen.calibration.records import Timed

Work = Callable[[], object]


class Stopwatch:
    """Warms up, then repeats. On a GPU the time is between two events of the current stream, so
    that what Python does meanwhile is not in it, unless the device had to wait for Python."""

    def __init__(self, device: Any, repeats: int, warmups: int = 2) -> None:
        assert repeats >= 1 and warmups >= 0
        self.on_gpu = torch.device(device).type == "cuda"
        self._repeats, self._warmups = repeats, warmups

    def time(self, work: Work, warmups: int | None = None) -> Timed:
        for _ in range(self._warmups if warmups is None else warmups):
            work()
        taken = sorted(self._once(work) for _ in range(self._repeats))
        return Timed(median(taken), taken[0], taken[-1], len(taken))

    def _once(self, work: Work) -> float:
        if not self.on_gpu:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        torch.cuda.synchronize()
        span = Span()
        with span:
            work()
        torch.cuda.synchronize()
        return span.seconds()


def own_stream(device: Any) -> AbstractContextManager[object]:
    """A stream to work on: graphs and batched copies refuse CUDA's default one."""
    if torch.device(device).type != "cuda":
        return nullcontext()
    stream: AbstractContextManager[object] = torch.cuda.stream(torch.cuda.Stream())
    return stream


class Span:
    """Time between entry and exit on the current CUDA stream; read it after synchronising."""

    def __init__(self) -> None:
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __enter__(self) -> None:
        self._start.record()

    def __exit__(self, *_: object) -> None:
        self._end.record()

    def seconds(self) -> float:
        return float(self._start.elapsed_time(self._end)) / 1e3


def captured(work: Work, device: Any) -> Work:
    """`work` as a CUDA graph, which engines use where launching kernels takes longer than running
    them: decode steps and small prefills. On a CPU `work` itself."""
    if torch.device(device).type != "cuda":
        return work
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # kernels are compiled and chosen before they can be recorded
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    replay: Work = graph.replay
    return replay
