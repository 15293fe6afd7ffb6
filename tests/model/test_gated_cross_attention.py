from __future__ import annotations

import torch

from flamingo_app.config import GatedConfig
from flamingo_app.model.cache import MediaLayer
from flamingo_app.model.gated_cross_attention import GatedCrossAttentionBlock, Trace

X, MEDIA = torch.randn(2, 4, 6), torch.randn(2, 3, 5)
ALL = torch.ones(2, 4, 3, dtype=torch.bool)


def block(gate: float) -> GatedCrossAttentionBlock:
    torch.manual_seed(0)
    made = GatedCrossAttentionBlock(6, 5, GatedConfig(heads=2, dim_head=4))
    torch.nn.init.constant_(made.attn_gate, gate)
    torch.nn.init.constant_(made.ff_gate, gate)
    return made


def test_it_starts_as_the_identity():
    fresh = GatedCrossAttentionBlock(6, 5, GatedConfig())
    assert torch.equal(fresh(X, MEDIA, ALL), X)


def test_a_token_that_sees_nothing_is_as_if_there_were_no_pictures():
    visible = ALL.clone()
    visible[0, 1] = False
    got, without = block(1.0)(X, MEDIA, visible), block(1.0)(X, None, None)
    torch.testing.assert_close(got[0, 1], without[0, 1])
    assert not torch.allclose(got[0, 0], without[0, 0])


def test_the_feed_forward_runs_without_pictures():
    assert not torch.allclose(block(1.0)(X, None, None), X)


def test_keys_and_values_of_a_picture_are_projected_once():
    whole, cached, projections = block(1.0), MediaLayer(), []
    whole.attention.to_kv.register_forward_hook(lambda *_: projections.append(1))
    expected = whole(X, MEDIA, ALL)
    torch.testing.assert_close(whole(X, MEDIA, ALL, cached), expected)
    torch.testing.assert_close(whole(X, None, ALL, cached), expected)
    assert len(projections) == 2


def test_what_is_followed_takes_what_it_takes_where_all_are_followed():
    everything, some = Trace(), Trace((torch.tensor([1, 0, 1]), torch.tensor([3, 2, 3])))
    visible = ALL.clone()
    visible[0, 2, :2] = False
    made = block(0.5)
    assert torch.equal(made(X, MEDIA, visible, trace=everything), made(X, MEDIA, visible, trace=some))
    torch.testing.assert_close(some.taken[0], everything.taken[0][some.at])
    assert some.taken[0][1, :2].tolist() == [0.0, 0.0]
