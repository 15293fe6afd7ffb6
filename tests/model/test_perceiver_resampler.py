from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from flamingo_app.config import ResamplerConfig
from flamingo_app.errors import PromptError
from flamingo_app.model.perceiver_resampler import PerceiverResampler


def resampler(**config: Any) -> PerceiverResampler:
    torch.manual_seed(0)
    return PerceiverResampler(8, ResamplerConfig(**{"depth": 2, "num_latents": 3, "heads": 2, "dim_head": 4} | config))


def patches(frames: int = 1, count: int = 5) -> torch.Tensor:
    return torch.randn(2, 3, frames, count, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (1, 5), (4, 9)])
def test_any_number_of_patches_becomes_the_same_number_of_latents(frames, count):
    assert resampler()(patches(frames, count)).shape == (2, 3, 3, 8)


def test_without_positions_the_order_of_patches_does_not_matter():
    plain, x = resampler(), patches()
    torch.testing.assert_close(plain(x.flip(3)), plain(x))


@pytest.mark.parametrize(("config", "axis"), [({"num_positions": 5}, 3), ({"max_frames": 2}, 2)])
def test_with_positions_or_frames_it_does(config, axis):
    placed, x = resampler(**config), patches(frames=2)
    assert not torch.allclose(placed(x.flip(axis)), placed(x))


@pytest.mark.parametrize(("config", "message"), [({"num_positions": 4}, "4 patches"), ({"max_frames": 1}, "1 frames")])
def test_more_than_there_are_embeddings_for(config, message):
    with pytest.raises(PromptError, match=f"at most {message}"):
        resampler(**config)(patches(frames=2))


def test_query_and_key_norms_make_the_scale_of_queries_irrelevant():
    normed, plain, x = resampler(qk_norm=True), resampler(), patches()
    for module, changes in ((normed, False), (plain, True)):
        before = module(x)
        with torch.no_grad():
            for layer in module.layers:
                layer.attention.to_q.weight *= 50
        assert torch.allclose(module(x), before, atol=1e-3) != changes


def test_linear_layers_have_no_biases():
    assert all(module.bias is None for module in resampler().modules() if isinstance(module, nn.Linear))


def test_pictures_may_be_embedded_by_their_order():
    """Encoded at once or after one another, wherever the caller says that a row stands."""
    made, given = resampler(max_images=5), patches()
    whole = made(given)
    parts = [made(given[:, [image]], seen=torch.full((2,), image)) for image in range(3)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    assert not torch.allclose(made(given.flip(1)), whole.flip(1))


def test_pictures_after_the_last_order_share_it():
    made, given = resampler(max_images=2), patches()
    late = [made(given[:, [1]], seen=torch.full((2,), seen)) for seen in (1, 2, 7)]
    assert all(torch.equal(late[0], other) for other in late[1:])
    torch.testing.assert_close(made(given)[:, [1]], late[0])
    assert not torch.allclose(made(given[:, [1]]), late[0])


def test_a_picture_may_go_without_the_first_frames_embedding():
    made, plain = resampler(max_frames=4, embed_single_frames=False), resampler()
    plain.load_state_dict(made.state_dict(), strict=False)
    torch.testing.assert_close(made(patches()), plain(patches()))
    assert not torch.allclose(made(patches(frames=2)), plain(patches(frames=2)))
