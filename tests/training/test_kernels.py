"""Faster kernels compute what the plain layers do, and keep no more for the way back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from training.kernels import FASTER, use_faster

IN, OUT = 512, 768


def layer(kind: type[nn.Module], *, bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    if kind is nn.Linear:
        return nn.Linear(IN, OUT, bias=bias)
    made = kind(OUT, IN) if kind is Conv1D else kind()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.05)
    return made


def there_and_back(made: nn.Module, x: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of what went in and of what learns."""
    x = x.clone().requires_grad_()
    out = made(x)
    (out * torch.linspace(-1, 1, out.shape[-1])).square().sum().backward()
    return [out, *(tensor.grad for tensor in (x, *made.parameters()) if tensor.grad is not None)]


@pytest.mark.parametrize("shape", [(4, 33, IN), (5, IN), (1, 1, IN), (0, IN)], ids=str)
@pytest.mark.parametrize(
    ("kind", "bias"), [(nn.Linear, True), (nn.Linear, False), (Conv1D, True), (NewGELUActivation, True)]
)
@pytest.mark.parametrize("frozen", [False, True])
def test_they_are_the_layers_that_they_stand_for(
    kind: type[nn.Module], bias: bool, frozen: bool, shape: tuple[int, ...]
) -> None:
    plain, faster = (layer(kind, bias=bias).requires_grad_(not frozen) for _ in range(2))
    use_faster(faster)
    assert type(faster) is FASTER[kind]
    assert isinstance(faster, kind)
    assert plain.state_dict().keys() == faster.state_dict().keys()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for a, b in zip(there_and_back(plain, x), there_and_back(faster, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_a_frozen_layer_keeps_nothing_of_what_came_in(kind: type[nn.Module]) -> None:
    made, kept = layer(kind).requires_grad_(False), list[tuple[int, ...]]()
    use_faster(made)
    x = torch.randn(3, IN, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda t: t):
        made(x)
    assert kept == [(OUT, IN)]


def test_small_layers_stay_as_they_are() -> None:
    small = nn.Linear(8, 8)
    use_faster(small)
    assert type(small) is nn.Linear
