"""What caches of the fleet's size could have had of exactly what an arm was asked, in its order."""

from collections.abc import Sequence

from loadgen.sample import Sample
from loadgen.simulate.bounds import Bounds, bounds
from loadgen.simulate.prompts import Play
from loadgen.simulate.world import Sample as Asked
from loadgen.traces.model import SubAgent, Trace, Turn
from loadgen.warm import Warm


def attainable(
    samples: Sequence[Sample], traces: Sequence[Trace], warm: Warm, capacity_tokens: int
) -> Bounds | None:
    """Hit rates of one run's answered requests. Blocks are the traces' own, so lengths are floored
    a little more than by engines; None for traces that are not made of blocks of their own."""
    sizes = {trace.block_size for trace in traces}
    answered = [sample for sample in samples if sample.prompt_tokens]
    if len(sizes) != 1 or any(trace.shared_ids for trace in traces) or not answered:
        return None
    known = {trace.id: _turns(trace) for trace in traces}
    places = {trace.id: (place, trace) for place, trace in enumerate(traces)}
    asked = []
    for sample in answered:
        turn, fixed_tokens = known[sample.trace][sample.agent, sample.turn]
        number = int(sample.conversation.rpartition("-")[2])
        place, trace = places[sample.trace]
        play = Play(trace, 1 + number * len(traces) + place, warm)
        prompt = play.prompt(turn, fixed_tokens, sub_agent=bool(sample.agent))
        name = f"{sample.conversation}/{sample.agent}" if sample.agent else sample.conversation
        at = sample.t_intended + (sample.lag_s or 0.0)
        asked.append(Asked(name, prompt, sample.completion_tokens or 0, at))
    return bounds(asked, capacity_tokens, sizes.pop())


def _turns(trace: Trace) -> dict[tuple[str, int], tuple[Turn, int]]:
    """Turn, and tools and system text of the agent that asks, by agent and number."""
    found = {("", number): (turn, trace.fixed_tokens) for number, turn in enumerate(trace.turns)}
    for step in trace.steps:
        if isinstance(step, SubAgent):
            for number, turn in enumerate(step.turns):
                found[step.agent_id, number] = (turn, step.fixed_tokens)
    return found
