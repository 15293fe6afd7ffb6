"""Layers that can be run backwards, so that none of their activations has to be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

Half = Float[Tensor, "batch tokens dim"]


class ReversibleLayer(NamedTuple):
    """Two functions of equal width, and the parameters that they use; the same input must give the same output."""

    f: Callable[[Half], Half]
    g: Callable[[Half], Half]
    f_parameters: Sequence[nn.Parameter]
    g_parameters: Sequence[nn.Parameter]


def run_reversibly(x: Half, layers: Sequence[ReversibleLayer]) -> Half:
    """Start two streams from x, let each layer add to both in turn, and add them up (Gomez et al. 2017, section 3.2).

    Memory does not grow with the number of layers: going back, each layer's input is computed from its output.
    """
    parameters = [p for layer in layers for p in (*layer.f_parameters, *layer.g_parameters)]
    first, second = _ReversibleStack.apply(x, x, layers, *parameters)
    return first + second


class _ReversibleStack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x1: Tensor, x2: Tensor, layers: Sequence[ReversibleLayer], *_: Tensor) -> Any:
        for layer in layers:
            x1 = x1 + layer.f(x2)
            x2 = x2 + layer.g(x1)
        ctx.layers = layers
        ctx.save_for_backward(x1, x2)
        return x1, x2

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        x1, x2 = ctx.saved_tensors
        grad1, grad2 = grad_outputs
        gradients: list[Tensor | None] = []
        for layer in reversed(ctx.layers):
            through_g, from_g, g_grads = _again(layer.g, x1, grad2, layer.g_parameters)
            x2, grad1 = x2 - through_g, grad1 + from_g
            through_f, from_f, f_grads = _again(layer.f, x2, grad1, layer.f_parameters)
            x1, grad2 = x1 - through_f, grad2 + from_f
            gradients = [*f_grads, *g_grads, *gradients]
        return grad1, grad2, None, *gradients


def _again(
    function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor, parameters: Sequence[nn.Parameter]
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """What the function gave, and the gradients of its input and of its parameters; None where one is frozen."""
    trained = [p for p in parameters if p.requires_grad]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
    from_x, *grads = torch.autograd.grad(y, [x, *trained], grad)
    found = iter(grads)
    return y.detach(), from_x, [next(found) if p.requires_grad else None for p in parameters]
