from __future__ import annotations

import pytest
import torch
from torch import nn

from flamingo_app.errors import ConfigError, PromptError
from flamingo_app.memory.memory_update import MemoryUpdate
from flamingo_app.memory.perceiver_io import PerceiverIO, PerceiverIOConfig, PerceiverLM, drop_elements

SIZES = {"depth": 2, "num_latents": 3, "dim_latents": 8, "latent_heads": 2, "latent_dim_head": 4, "cross_dim_head": 4}


def perceiver(**options: object) -> PerceiverIO:
    torch.manual_seed(0)
    return PerceiverIO(4, 6, PerceiverIOConfig(**SIZES | options))


def test_what_the_mask_hides_changes_nothing():
    model, data, queries = perceiver(), torch.randn(2, 5, 4), torch.randn(7, 6)
    mask = torch.tensor([[True, True, False, True, False]] * 2)
    other = data.masked_scatter(~mask[..., None], torch.randn(16))
    torch.testing.assert_close(model(data, queries, mask), model(other, queries, mask))
    torch.testing.assert_close(model(data, queries, mask), model(data[:, mask[0]], queries))


def test_no_data_leaves_the_latents_unread():
    model, nothing = perceiver(), torch.zeros(2, 5, dtype=torch.bool)
    first, second = (model.encode(torch.randn(2, 5, 4), nothing) for _ in range(2))
    torch.testing.assert_close(first, second)


def test_a_query_knows_nothing_of_the_others():
    model, data, queries = perceiver(), torch.randn(2, 5, 4), torch.randn(2, 7, 6)
    torch.testing.assert_close(model(data, queries)[:, 2:4], model(data, queries[:, 2:4]))


def test_tied_layers_are_one_layer():
    def weights(model: nn.Module) -> int:
        return sum(parameter.numel() for parameter in model.parameters())

    assert weights(perceiver(tie_layers=True, depth=4)) == weights(perceiver(depth=1))
    assert weights(perceiver(depth=4)) > weights(perceiver(depth=1))


def test_dropped_elements_are_left_out_in_training_alone():
    model, data = perceiver(sequence_dropout=0.5), torch.randn(1, 6, 4)
    assert not torch.equal(model.encode(data), model.encode(data))
    assert torch.equal(model.eval().encode(data), model.encode(data))


def test_padding_is_dropped_first_and_each_row_keeps_its_part():
    mask = torch.tensor([[True] * 8, [True] * 3 + [False] * 5])
    data = torch.where(mask, torch.arange(1.0, 9.0), 0.0)[..., None]
    kept, kept_mask = drop_elements(data, mask, 0.5)
    assert kept.shape == (2, 4, 1)
    assert kept_mask.sum(dim=1).tolist() == [4, 2]
    assert (kept[..., 0][kept_mask] > 0).all()


def test_more_tokens_than_positions():
    with pytest.raises(PromptError, match="at most 4 tokens"):
        PerceiverLM(9, 4, 6, PerceiverIOConfig(**SIZES))(torch.zeros(1, 5, dtype=torch.long))


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ConfigError, match="3 heads"):
        MemoryUpdate(8, heads=3)
