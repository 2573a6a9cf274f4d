"""Makes a random 1.3M-parameter chat model and its tokeniser; run by the engine's own Python.

usage: tiny_model.py FOLDER. The same seed gives the same weights; the tokeniser is a byte-level BPE
trained on Python's own library, so prompts of code and prose cost about 2.8 characters a token.
"""

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SEED = 0
VOCABULARY = 8192
POSITIONS = 65_536
CORPUS_BYTES = 8_000_000
FILE_BYTES_MAX = 200_000
END, PAD = "<|im_end|>", "<|endoftext|>"
SPECIAL = [PAD, "<|im_start|>", END, "<tool_call>", "</tool_call>", "<tool_response>"]
SPECIAL += ["</tool_response>", "<think>", "</think>"]
# Qwen2's pre-tokeniser: digits one by one, words with their leading space.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# ChatML with Qwen's tool block: tools are dumped as JSON into the system message.
TEMPLATE = r"""
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
    {{- '# Tools\n\nYou may call one or more functions. Their signatures:\n<tools>' }}
    {%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\n</tools>\n\nA call is {"name": <name>, "arguments": <object>} ' }}
    {{- 'within <tool_call></tool_call>.<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- if message.content %}{{- message.content }}{%- endif %}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function %}
            {{- '\n<tool_call>\n{"name": "' + call.name + '", "arguments": ' }}
            {%- if call.arguments is string %}{{- call.arguments }}
            {%- else %}{{- call.arguments | tojson }}{%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""


def main(folder: Path) -> None:
    tokeniser = train_tokeniser()
    PreTrainedTokenizerFast(
        tokenizer_object=tokeniser,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=POSITIONS,
        chat_template=TEMPLATE.strip(),
    ).save_pretrained(folder)
    end, pad = tokeniser.token_to_id(END), tokeniser.token_to_id(PAD)
    random_model(end, pad).save_pretrained(folder)
    generation = {"eos_token_id": end, "pad_token_id": pad}
    (folder / "generation_config.json").write_text(json.dumps(generation))


def train_tokeniser() -> Tokenizer:
    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokeniser.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokeniser.train_from_iterator(corpus(), trainer)
    return tokeniser


def corpus() -> Iterator[str]:
    """Python's own library, file by file, up to CORPUS_BYTES."""
    left = CORPUS_BYTES
    library = Path(sysconfig.get_paths()["stdlib"])
    for pattern in ("*.py", "json/*.py", "asyncio/*.py", "unittest/*.py", "test/*.py"):
        for path in sorted(library.glob(pattern)):
            text = path.read_bytes()[:FILE_BYTES_MAX].decode("utf-8", "ignore")
            left -= len(text)
            yield text
            if left <= 0:
                return


def random_model(end: int, pad: int) -> Qwen2ForCausalLM:
    """Two layers, one KV head: 512 bytes of KV a token."""
    torch.manual_seed(SEED)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=POSITIONS,
        rope_theta=1e6,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        dtype="bfloat16",
    )
    return Qwen2ForCausalLM(config).to(torch.bfloat16)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
