"""Every request of recorded conversations, resets and sub-agents too, as an engine counts it.

The recordings' own figures are read from their files here, without the loader under test.
"""

import json
from pathlib import Path

import pytest

from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.run import RunSettings, run_load
from loadgen.sample import Sample
from loadgen.schedule import Timing
from loadgen.traces.load import load_traces
from tests.support.shared import shared_path

BLOCK = 64
TIME_SCALE = 1000.0
# What the template puts before a message: a prompt that ends inside it cannot be met exactly.
OVERHEAD_TOKENS = 3
POINT = 0.001
Key = tuple[str, str, int]


def recorded(folder: Path) -> dict[Key, tuple[int, int]]:
    """By (trace, agent, turn): tokens of the prompt, and of its blocks that were sent before."""
    found: dict[Key, tuple[int, int]] = {}
    for file in sorted(folder.glob("*.json")):
        raw = json.loads(file.read_bytes())
        agents = [entry for entry in raw["requests"] if entry["type"] == "subagent"]
        lanes = [("", raw["requests"]), *((one["agent_id"], one["requests"]) for one in agents)]
        seen: set[int] = set()
        for agent, entries in lanes:
            asked = [entry for entry in entries if entry["type"] != "subagent"]
            for turn, entry in enumerate(asked):
                ids = entry["hash_ids"]
                fresh = next((at for at, one in enumerate(ids) if one not in seen), len(ids))
                found[raw["id"], agent, turn] = (entry["in"], fresh * BLOCK)
                seen.update(ids)
    return found


@pytest.mark.slow
async def test_prompts_and_hits_are_those_of_the_recordings() -> None:
    folder = shared_path("traces", "traces")
    own = recorded(folder)
    engines = EmulatorSettings(
        hbm_tokens=40_000_000, block_size=BLOCK, max_model_len=1_000_000, time_scale=TIME_SCALE
    )
    fleet = Fleet(engines, 1, "127.0.0.1", 0)
    await fleet.start()
    try:
        run = RunSettings(
            fleet.urls[0], users=2, timing=Timing(think_cap_s=0.0, time_scale=TIME_SCALE),
            warm_prefix_pct=0.0, output_tokens_max=1, engine_block_size=BLOCK,
        )  # fmt: skip
        result = await run_load(run, load_traces(folder, 1_000_000))
    finally:
        await fleet.stop()
    _check(result.samples, own)


def _check(samples: list[Sample], own: dict[Key, tuple[int, int]]) -> None:
    assert {(s.trace, s.agent, s.turn) for s in samples} == set(own)
    off = [abs((s.prompt_tokens or 0) - own[s.trace, s.agent, s.turn][0]) for s in samples]
    prompt = sum(s.prompt_tokens or 0 for s in samples)
    hit = sum(hits for _, hits in own.values()) / sum(tokens for tokens, _ in own.values())
    bound = sum(s.bound_tokens for s in samples) / prompt
    reported = sum(s.cached_tokens or 0 for s in samples) / prompt
    print(
        f"{len(samples)} requests, {off.count(0)} prompts exact, the others off by at most "
        f"{max(off)}; hit {hit:.5f} recorded, {bound:.5f} bound, {reported:.5f} reported"
    )
    assert max(off) <= OVERHEAD_TOKENS
    assert abs(bound - hit) <= POINT
    # Sub-agents that run side by side may both compute what the recording had one of them reuse.
    assert abs(reported - hit) <= POINT
