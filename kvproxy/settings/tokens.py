"""Where the token ids of prompts come from, for sources that know prompts by those alone."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import FROM_LIST, Count

TokenizerPair = Annotated[str, Field(pattern=r"^[^=\s]+=.+$")]


class TokensSettings(BaseModel):
    """Token ids of prompts, by which alone LMCache and the events of SGLang and of vLLM before 0.30
    know them. They are wanted behind an answer, never before it. What is set here is tried in this
    order; then the engine's /tokenize is asked."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    return_token_ids: bool = Field(
        default=False,
        description="true has vLLM tell them in the answer itself, from where they are taken out "
        "again: cheaper than asking afterwards, but an answer that is no stream is held until it "
        "is whole. Replicas whose /openapi.json does not know the field are not asked.",
    )
    tokenizers: Annotated[tuple[TokenizerPair, ...], FROM_LIST] = Field(
        default=(),
        max_length=256,
        description="Folders with a model's tokenizer.json and chat template, as `model=folder`, "
        "one entry a model: prompts are tokenised here, off the request's path, and no engine is "
        "asked. Needs `pip install kvproxy[tokenizer]`.",
    )
    tokenized_max_bytes: Count = Field(
        default=64 * 2**20,
        ge=2**20,
        description="Memory for tokens of conversations that are tokenised here, 4 bytes a token: "
        "the next turn goes on behind them. Raise it with identify.max_sessions.",
    )
    ask_templates: bool = Field(
        default=False,
        description="true asks each replica's /tokenize, as it comes, what its chat template "
        "prints of names, ids of tool calls, earlier reasoning and a developer's role, and of "
        "template arguments when a request first has them: what none prints is no difference "
        "between two prompts. Worth it where clients change such things between turns. Not with "
        "several workers.",
    )
