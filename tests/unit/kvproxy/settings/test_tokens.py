import pytest
from pydantic import ValidationError

from kvproxy.settings.tokens import TokensSettings


def test_nothing_is_done_unless_it_is_asked_for() -> None:
    assert TokensSettings() == TokensSettings(return_token_ids=False, tokenizers=())


def test_a_model_may_have_slashes_and_a_folder_spaces() -> None:
    pairs = ("Qwen/Qwen3-8B=/models/my qwen",)
    assert TokensSettings.model_validate({"tokenizers": list(pairs)}).tokenizers == pairs


@pytest.mark.parametrize("pair", ["model", "=folder", "model=", "a b=folder"])
def test_other_pairs_are_refused(pair: str) -> None:
    with pytest.raises(ValidationError):
        TokensSettings.model_validate({"tokenizers": [pair]})
