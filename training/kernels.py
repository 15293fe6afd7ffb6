"""The same layers by faster kernels, for training in full precision on a CPU.

Matrix products come from oneDNN, which torch brings along; MKL, from which torch takes them, is slower on processors
that are not Intel's. GPT-2's activation comes in one piece instead of eight.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

LARGE = 2**18  # weights of a layer from which on it pays to have a kernel made for each shape that comes


def use_faster(model: nn.Module) -> None:
    """Let the layers of a model use faster kernels, where there are any; their weights, names and hooks stay."""
    if not torch.backends.mkldnn.is_available():
        return
    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        if type(layer) in FASTER and (weight is None or weight.numel() >= LARGE):
            layer.__class__ = FASTER[type(layer)]


class FasterLinear(nn.Linear):
    """`nn.Linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return cast(Tensor, _Product.apply(input, self.weight, self.bias))


class FasterConv1D(Conv1D):
    """What GPT-2 has for it: the weights lie the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, _Product.apply(x, self.weight.t(), self.bias))


class FasterNewGELU(NewGELUActivation):
    """GPT-2's approximation of GELU."""

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, approximate="tanh")


FASTER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: FasterLinear,
    Conv1D: FasterConv1D,
    NewGELUActivation: FasterNewGELU,
}


class _Product(Function):
    """`F.linear` and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _onednn(grad, weight.t()) if to_x else None,
            _onednn(rows.t(), x.flatten(0, -2).t()) if to_weight else None,
            rows.sum(dim=0) if to_bias else None,
        )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not x.numel():
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
