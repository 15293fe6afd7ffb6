"""Muon for matrices and kernels, AdamW for the rest: each parameter in one of the two."""

import pytest
import torch
from torch import Tensor, nn

from training.optimizer import Muon, Optimizers, split


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(7, 3)
        self.inner = nn.Linear(3, 4)
        self.position_embeddings = nn.Parameter(torch.randn(4, 4))
        self.gate = nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(4, 7, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.gate.tanh() * (self.inner(self.words(ids)) @ self.position_embeddings))


def test_every_trained_parameter_is_in_one_part() -> None:
    network = Network()
    network.head.requires_grad_(False)
    matrices, rest = split(network)
    assert matrices.keys() == {"inner.weight"}
    assert rest.keys() == {"words.weight", "inner.bias", "position_embeddings", "gate"}


def test_an_embedding_that_is_also_the_head_is_no_matrix() -> None:
    network = Network()
    network.head.weight = nn.Parameter(torch.randn(7, 3))
    network.words.weight = network.head.weight
    assert "head.weight" not in split(network)[0]
    assert "words.weight" not in split(network)[0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_is_stepped_as_its_matrix(memory_format: torch.memory_format) -> None:
    torch.manual_seed(1)
    start, gradient = torch.randn(5, 3, 2, 2), torch.randn(5, 3, 2, 2)
    kernel = nn.Parameter(start.clone().to(memory_format=memory_format))
    matrix = nn.Parameter(start.clone().flatten(1))
    kernel.grad, matrix.grad = gradient.clone(), gradient.flatten(1)
    Muon([kernel], lr=0.1, weight_decay=0.0).step()
    torch.optim.Muon([matrix], lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    assert not torch.equal(kernel.detach(), start)
    assert torch.allclose(kernel.detach().flatten(1), matrix.detach(), atol=1e-2)  # the library rounds to bfloat16


def test_matrices_of_one_shape_are_stepped_as_each_alone() -> None:
    torch.manual_seed(2)
    shapes = ((5, 3), (3, 5), (5, 3), (4, 4), (5, 3))
    together = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    alone = [nn.Parameter(matrix.detach().clone()) for matrix in together]
    all_at_once = Muon(together, lr=0.1, weight_decay=0.1)
    one_by_one = [Muon([matrix], lr=0.1, weight_decay=0.1) for matrix in alone]
    for _ in range(3):
        for matrix, same in zip(together, alone, strict=True):
            matrix.grad = torch.randn(matrix.shape)
            same.grad = matrix.grad.clone()
        all_at_once.step()
        for optimizer in one_by_one:
            optimizer.step()
    for matrix, same in zip(together, alone, strict=True):
        torch.testing.assert_close(matrix, same)


def test_muon_is_the_library_s_but_for_its_rounding() -> None:
    torch.manual_seed(3)
    start = torch.randn(6, 8)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(5):
        ours.grad = torch.randn(6, 8)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert (ours - theirs).detach().norm() < 0.05 * (theirs.detach() - start).norm()


def test_parts_learn_at_their_own_rates() -> None:
    network = Network()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizers = Optimizers(
        network, rate=0.01, matrix_rate=0.0, weight_decay=0.0, betas=(0.9, 0.98), factors={"gate": 10.0}
    )
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step(0.5)
    moved = {name: (p.detach() - before[name]).abs().max().item() for name, p in network.named_parameters()}
    assert moved["inner.weight"] == moved["head.weight"] == 0
    assert moved["gate"] == pytest.approx(0.05, rel=1e-3)
    assert moved["words.weight"] == pytest.approx(0.005, rel=1e-3)
