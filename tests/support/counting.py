"""How much Python a piece of code runs: bytecodes, and calls of functions, by where they are.

Unlike times these are the same on every machine, whatever else it does.
"""

import sys
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, Self


class Counting:
    """Counts inside its block, code of files whose names end with one of `but` left out."""

    def __init__(self, *but: str) -> None:
        self._but = but
        self._skip: dict[CodeType, bool] = {}
        self.opcodes: Counter[CodeType] = Counter()
        self.calls: Counter[CodeType] = Counter()
        self.c_calls: Counter[CodeType] = Counter()

    def __enter__(self) -> Self:
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        sys.settrace(None)
        sys.setprofile(None)

    def _skipped(self, code: CodeType) -> bool:
        skip = self._skip.get(code)
        if skip is None:
            skip = self._skip[code] = code.co_filename.endswith((*self._but, "counting.py"))
        return skip

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if self._skipped(frame.f_code):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._opcode

    def _opcode(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        if event == "opcode":
            self.opcodes[frame.f_code] += 1
        return self._opcode

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call" and not self._skipped(code):
            self.calls[code] += 1
        elif event == "c_call" and not self._skipped(code):
            self.c_calls[code] += 1

    def table(self, per: int, top: int = 40) -> str:
        """Of `per` repetitions: bytecodes, calls of it and calls of C by it; one function a line"""
        rows = [("all", self.opcodes.total(), self.calls.total(), self.c_calls.total())]
        for code, count in self.opcodes.most_common(top):
            rows.append((_name(code), count, self.calls[code], self.c_calls[code]))
        lines = [f"{'opcodes':>9} {'calls':>7} {'c calls':>7}"]
        lines += [f"{o / per:9.1f} {c / per:7.2f} {e / per:7.2f}  {name}" for name, o, c, e in rows]
        return "\n".join(lines)


def _name(code: CodeType) -> str:
    return f"{'/'.join(code.co_filename.split('/')[-2:])}:{code.co_qualname}"
