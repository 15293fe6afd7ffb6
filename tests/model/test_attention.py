from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_app.attention import attend, merge_heads, split_heads

sizes = st.integers(1, 5)


@given(batch=sizes, tokens=sizes, keys=sizes, seed=st.integers(0, 2**16))
@settings(max_examples=30)
def test_a_token_gets_the_softmax_average_of_what_it_sees_and_zero_where_that_is_nothing(batch, tokens, keys, seed):
    make = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, 2, count, 4, generator=make) for count in (tokens, keys, keys))
    visible = torch.rand(batch, tokens, keys, generator=make) < 0.5
    got = attend(q.requires_grad_(), k, v, visible)
    for b in range(batch):
        for t in range(tokens):
            seen = visible[b, t]
            expected = torch.einsum(
                "hk,hkd->hd", (k[b, :, seen] @ q[b, :, t, :, None] / 2)[..., 0].softmax(-1), v[b, :, seen]
            )
            torch.testing.assert_close(got[b, :, t], expected if seen.any() else torch.zeros(2, 4))
    got.sum().backward()
    blind = ~visible.any(-1)
    assert torch.equal(q.grad.transpose(1, 2)[blind], torch.zeros(int(blind.sum()), 2, 4))


def test_heads_are_cut_and_put_back():
    x = torch.randn(2, 3, 8)
    assert torch.equal(split_heads(x, 4)[:, 1], x[:, :, 2:4])
    assert torch.equal(merge_heads(split_heads(x, 4)), x)
