"""What every stage is trained with: Muon for the matrices, AdamW for all else.

Muon (Jordan et al. 2024) makes each step of a matrix orthogonal, so that weak directions of the gradient count as much
as strong ones. On the tiny networks here it needs about half as many steps as AdamW.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from timm.optim.muon import get_lr_scale, zeropower_via_newtonschulz
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from training.checkpoint import optimizer_tensors, restore_optimizer

LOOKED_UP = ("embed", "latents", "rows")
"""In the names of parameters that look like matrices and are lists of vectors."""


class Muon(torch.optim.Muon):
    """The library's Muon, of kernels too, and fast on any CPU.

    A convolution's kernel is stepped as the matrix (out, in x height x width) that it is. The library makes matrices
    orthogonal one by one and in bfloat16, which takes a CPU that has no instructions for it several times as long as
    the rest of a step. Here those of one shape go together, on a CPU in single precision.

    Args:
        parameters: matrices and kernels; they are changed in place.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        matrices = [nn.Parameter(_as_matrix(parameter.detach(), parameter)) for parameter in self.parameters]
        for matrix, parameter in zip(matrices, self.parameters, strict=True):
            assert matrix.data_ptr() == parameter.data_ptr(), "a matrix must share its parameter's memory"
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        (group,) = self.param_groups
        for matrix, parameter in zip(group["params"], self.parameters, strict=True):
            matrix.grad = None if parameter.grad is None else _as_matrix(parameter.grad, parameter)
        matrices: list[Tensor] = []
        gradients: list[Tensor] = []
        momenta: list[Tensor] = []
        self._init_group(group, matrices, gradients, momenta)
        momentum, rate = group["momentum"], group["lr"]
        shapes: dict[torch.Size, list[int]] = {}
        for number, (gradient, average) in enumerate(zip(gradients, momenta, strict=True)):
            average.lerp_(gradient, 1 - momentum)
            shapes.setdefault(gradient.shape, []).append(number)
        for shape, numbers in shapes.items():
            nesterov = torch.stack([gradients[number].lerp(momenta[number], momentum) for number in numbers])
            orthogonal = zeropower_via_newtonschulz(
                nesterov,
                group["ns_steps"],
                [group["ns_coefficients"]],
                eps=group["eps"],
                dtype=torch.float32 if nesterov.device.type == "cpu" else torch.bfloat16,
            )
            for number, update in zip(numbers, orthogonal, strict=True):
                matrices[number].mul_(1 - rate * group["weight_decay"])
                matrices[number].add_(update, alpha=-rate * get_lr_scale(shape, group["adjust_lr_fn"]))


def _as_matrix(tensor: Tensor, like: nn.Parameter) -> Tensor:
    """(out, everything else), in the order in which `like` lies in memory."""
    channels_last = like.ndim == 4 and not like.is_contiguous()
    return (tensor.permute(0, 2, 3, 1) if channels_last else tensor).reshape(len(tensor), -1)


class Optimizers:
    """Muon and AdamW, stepped, saved and restored as one.

    Args:
        module: whose parameters that require a gradient are trained.
        rate, matrix_rate: learning rates of AdamW and of Muon.
        factors: ending of a parameter's name -> factor on its rate, e.g. {"gate": 10.0}; all others 1.
        weight_decay: on matrices alone; gates, norms, biases and embeddings have none.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        rate: float,
        matrix_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        factors: Mapping[str, float],
    ) -> None:
        matrices, rest = split(module)
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in rest.items():
            factor = next((factor for ending, factor in factors.items() if name.endswith(ending)), 1.0)
            groups.setdefault(factor, []).append(parameter)
        self.all: list[Optimizer] = []
        if groups:
            listed = [{"params": members, "lr": rate * factor} for factor, members in groups.items()]
            self.all.append(AdamW(listed, betas=betas, weight_decay=0.0))
        if matrices:
            self.all.append(Muon(list(matrices.values()), lr=matrix_rate, weight_decay=weight_decay))
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.all]

    def step(self, share: float) -> None:
        """One step, at this share of the learning rates."""
        for optimizer, rates in zip(self.all, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors: "<optimiser>.<parameter's number>.<what>"."""
        return {
            f"{number}.{name}": tensor
            for number, optimizer in enumerate(self.all)
            for name, tensor in optimizer_tensors(optimizer).items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        for number, optimizer in enumerate(self.all):
            start = f"{number}."
            restore_optimizer(optimizer, {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})


def adamw_groups(module: nn.Module, *, weight_decay: float, gate_rate: float) -> Iterator[dict[str, Any]]:
    """Groups for AdamW alone: decay on matrices, embeddings not among them; gates with a factor on their rate."""
    matrices, rest = split(module)
    decay = [p for name, p in matrices.items() if not name.startswith("added_tokens")]
    others = [p for name, p in matrices.items() if name.startswith("added_tokens")]
    others += [p for name, p in rest.items() if not name.endswith("gate")]
    gate = [p for name, p in rest.items() if name.endswith("gate")]
    for members, decayed, factor in ((decay, weight_decay, 1.0), (others, 0.0, 1.0), (gate, 0.0, gate_rate)):
        if members:
            yield {"params": members, "weight_decay": decayed, "factor": factor}


def split(module: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The parameters to train: matrices that map what comes in to what goes out, and all others."""
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    matrices: dict[str, nn.Parameter] = {}
    rest: dict[str, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            looked_up = id(parameter) in embeddings or any(word in name for word in LOOKED_UP)
            (rest if parameter.ndim < 2 or looked_up else matrices)[name] = parameter
    return matrices, rest
