from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    FalconConfig,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from flamingo_app.config import PaLMConfig
from flamingo_app.errors import UnsupportedBackboneError
from flamingo_app.model.language_model import AddedTokens
from tests import tiny

WORDS: dict[str, Any] = {
    "vocab_size": tiny.BYTES + 3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.2,
}
LLAMA_LIKE = WORDS | {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
OPT = OPTConfig(
    **WORDS | {"pad_token_id": 1},
    hidden_size=16,
    ffn_dim=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    word_embed_proj_dim=8,
    max_position_embeddings=64,
    dropout=0.0,
)
NEOX = GPTNeoXConfig(
    **WORDS,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=64,
)
TAKEN = [
    tiny.gpt2_config(),
    OPT,
    NEOX,
    LlamaConfig(**LLAMA_LIKE),
    Qwen2Config(**LLAMA_LIKE),
    MistralConfig(**LLAMA_LIKE),
    PaLMConfig(
        vocab_size=tiny.BYTES + 3,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_dim=8,
        initializer_range=0.2,
    ),
]
REFUSED = [
    GPTNeoConfig(**WORDS, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]]),
    GPTJConfig(**WORDS, n_embd=16, n_layer=2, n_head=2, rotary_dim=4),
    BloomConfig(**WORDS, hidden_size=16, n_layer=2, n_head=2),
    FalconConfig(**WORDS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2),
]


def family(config: PreTrainedConfig) -> str:
    return config.model_type


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("text", TAKEN, ids=family)
def test_families_that_pass_keywords_on(text, after):
    """Blocks before layers or after them: the cache changes nothing, and pictures something."""
    flamingo = tiny.model(text=text, gated=tiny.SMALL_PARTS["gated"] | {"after": after})
    inputs = {**tiny.rows(["a*cat*", "*?"]), "pixel_values": tiny.pictures(2, 2)}
    inputs["image_mask"] = torch.tensor([[True, True], [True, False]])
    asked = {"do_sample": False, "eos_token_id": None, "max_new_tokens": 10}
    cached = flamingo.generate(**inputs, **asked)
    assert torch.equal(cached, flamingo.generate(**inputs, **asked, use_cache=False))
    seen = flamingo(**inputs).logits
    assert not torch.allclose(seen, flamingo(**inputs | {"pixel_values": tiny.pictures(2, 2, seed=1)}).logits)


def test_blocks_after_layers_are_closed_at_first_too():
    flamingo = tiny.model(gates=0.0, gated=tiny.SMALL_PARTS["gated"] | {"after": True})
    ids = tiny.rows(["*ab"])["input_ids"]
    seen, plain = flamingo(ids, pixel_values=tiny.pictures()).logits, flamingo.language_model(ids).logits
    assert torch.equal(seen, plain)


@pytest.mark.parametrize("text", REFUSED, ids=family)
def test_families_that_would_swallow_the_pictures(text):
    with pytest.raises(UnsupportedBackboneError, match="do not receive the keywords"):
        tiny.model(text=text)


def test_layers_keep_the_names_their_authors_gave_them():
    flamingo = tiny.model()
    names = {name.removeprefix("language_model.") for name, _ in flamingo.language_model.named_parameters()}
    assert "transformer.h.0.ln_1.weight" in names
    assert not any("gate" in name for name in names)


@pytest.mark.parametrize(("every", "first", "layers"), [(1, None, (0, 1)), (2, None, (1,)), (2, 0, (0,)), (1, 1, (1,))])
def test_where_the_gated_blocks_stand(every, first, layers):
    flamingo = tiny.model(gated=tiny.SMALL_PARTS["gated"] | {"every": every, "first": first})
    hooked = [
        index
        for index, layer in enumerate(flamingo.language_model.transformer.h)
        if any(hook.gated_block is not None for hook in layer._forward_pre_hooks.values())
    ]
    assert flamingo.config.gated_layers == layers == tuple(hooked)
    assert len(flamingo.gated_blocks) == len(layers)


def test_added_tokens_have_rows_of_their_own_and_the_others_the_language_models():
    added, embedding = AddedTokens(first=5, count=2, dim_input=3, dim_output=3), torch.nn.Embedding(8, 3)
    torch.nn.init.normal_(added.input_rows)
    rows = added.embed(torch.tensor([[4, 5, 6]]), embedding)
    assert torch.equal(rows[0], torch.stack([embedding.weight[4], *added.input_rows]))


def test_logits_are_the_language_models_then_ours():
    plain = tiny.model(gates=0.0)
    flamingo = tiny.model(
        gates=0.0, num_added_tokens=2, image_token_id=260, end_of_chunk_token_id=259, pad_token_id=259
    )
    flamingo.language_model.load_state_dict(plain.language_model.state_dict())
    ids = tiny.rows(["abc"])["input_ids"]
    logits, theirs = flamingo(ids).logits, plain(ids).logits
    assert logits.shape[-1] == flamingo.config.num_tokens == 261
    torch.testing.assert_close(logits[..., :259], theirs)
    hidden = flamingo(ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(logits[..., 259:], hidden @ flamingo.added_tokens.output_rows.T)


def test_added_tokens_may_take_the_place_of_rows_that_no_token_uses():
    flamingo = tiny.model(num_added_tokens=2, image_token_id=257, end_of_chunk_token_id=256, pad_token_id=256)
    assert flamingo(torch.tensor([[97, 257, 98]]), pixel_values=tiny.pictures()).logits.shape[-1] == 258
