from __future__ import annotations

import pytest
import torch

from flamingo_app.errors import PromptError
from flamingo_app.memory.linformer import Linformer, LinformerConfig, LinformerLM


def config(**options: object) -> LinformerConfig:
    return LinformerConfig(**{"dim": 8, "max_tokens": 6, "num_projected": 3, "depth": 2, "heads": 2} | options)


def linformer(**options: object) -> Linformer:
    torch.manual_seed(0)
    return Linformer(config(**options))


@pytest.mark.parametrize("reversible", [False, True])
def test_padding_on_the_right_is_as_if_it_were_not_there(reversible):
    model, x = linformer(reversible=reversible), torch.randn(2, 6, 8)
    mask = torch.arange(6).expand(2, 6) < 4
    torch.testing.assert_close(model(x, mask)[:, :4], model(x[:, :4]))


def test_going_back_computes_the_gradients_that_keeping_would():
    model, x = linformer(reversible=True, depth=3), torch.randn(2, 5, 8, requires_grad=True)

    def keeping(x: torch.Tensor) -> torch.Tensor:
        first = second = x
        for layer in model.layers:
            first = first + layer.attend(second, None)
            second = second + layer.feed_forward(first)
        return first + second

    leaves = [x, *model.parameters()]
    expected = torch.autograd.grad(keeping(x).square().mean(), leaves)
    for ours, theirs in zip(torch.autograd.grad(model(x).square().mean(), leaves), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_frozen_weights_of_a_reversible_stack_get_no_gradient():
    model = linformer(reversible=True)
    model.layers[0].feed_forward.requires_grad_(False)
    model(torch.randn(1, 4, 8)).sum().backward()
    assert all(parameter.grad is None for parameter in model.layers[0].feed_forward.parameters())
    assert all(parameter.grad is not None for parameter in model.layers[1].parameters())


def test_a_reversible_stack_keeps_activations_of_one_layer_however_deep():
    def kept(depth: int) -> int:
        sizes: list[int] = []
        model, x = linformer(reversible=True, depth=depth), torch.randn(2, 5, 8)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            model(x)
        return sum(sizes)

    assert kept(6) == kept(1)


def test_more_than_the_projections_have_rows():
    with pytest.raises(PromptError, match="at most 6 tokens"):
        LinformerLM(9, config())(torch.zeros(1, 7, dtype=torch.long))
