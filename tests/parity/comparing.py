"""One row a case: run the reference and ours on the same weights and inputs, and measure how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hypothesis import settings
from torch import Tensor, nn

from flamingo_app.importers import Options, import_checkpoint
from flamingo_app.importers.conversion import read_peer
from flamingo_app.importers.weights import open_weights
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.trainable import is_trainable

TOLERANCE = 1e-5
FEW = settings(max_examples=6, deadline=None, derandomize=True)
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Row:
    """A line of docs/seeds.md, and the case that measures it.

    Attributes:
        system: the published package, with its version.
        option: what is compared.
        symbol: its name in the paper.
        reference: its name in the package.
        ours: its name here.
        where: the file here.
        options: what the case needs besides.
    """

    system: str
    option: str
    symbol: str
    reference: str
    ours: str
    where: str
    options: dict[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return self.option


errors: dict[Row, float] = {}
"""The largest difference seen in each case of this run."""


def agree(row: Row, ours: Tensor, theirs: Tensor, what: str = "output") -> None:
    """Fail where the two differ by more than 1e-5, of the largest value where that is above 1."""
    assert ours.shape == theirs.shape, f"{what}: shape {tuple(ours.shape)}, not {tuple(theirs.shape)}"
    if not ours.numel():
        return
    scale = max(1.0, theirs.abs().max().item())
    error = (ours - theirs).abs().max().item() / scale
    errors[row] = max(errors.get(row, 0.0), error)
    assert error <= TOLERANCE, f"{what}: they differ by {error:.1e}"


def compare(
    row: Row,
    *,
    ours: nn.Module,
    theirs: nn.Module,
    translate: Callable[[Tensors], Tensors],
    run_ours: Callable[..., tuple[Tensor, ...]],
    run_theirs: Callable[..., tuple[Tensor, ...]],
    inputs: Tensors,
) -> None:
    """Same weights, same inputs: same outputs, same gradients of inputs and weights.

    Args:
        row: where the error is noted.
        ours: our module; it gets their weights.
        theirs: their module; its weights are shaken first, so that none is zero or one.
        translate: from tensors by their names to tensors by our names.
        run_ours: outputs from our module and the inputs.
        run_theirs: outputs from their module and the inputs.
        inputs: tensors; those of floats get gradients.
    """
    shake(theirs)
    ours.load_state_dict(translate(theirs.state_dict()))
    our_outputs, our_gradients = _outputs_and_gradients(ours, run_ours, inputs)
    their_outputs, their_gradients = _outputs_and_gradients(theirs, run_theirs, inputs)
    for index, (ours_, theirs_) in enumerate(zip(our_outputs, their_outputs, strict=True)):
        agree(row, ours_, theirs_, f"output {index}")
    for name in inputs.keys() & their_gradients.keys():
        agree(row, our_gradients.pop(name), their_gradients.pop(name), f"gradient of the input {name}")
    expected = translate(their_gradients)
    assert expected.keys() == our_gradients.keys()
    for name, gradient in expected.items():
        agree(row, our_gradients[name], gradient, f"gradient of {name}")


def compare_imported(
    row: Row,
    *,
    theirs: nn.Module,
    save: Callable[[Path], object],
    options: Options,
    run_theirs: Callable[[Tensor], Tensor],
    input_ids: Tensor,
    pixel_values: Tensor,
) -> None:
    """A whole model through its own file and our importer: same logits, same gradients of what trains in both.

    Args:
        row: where the error is noted.
        theirs: their model.
        save: writes it to a folder, as its authors' code does.
        options: of the import.
        run_theirs: its logits of these tokens.
        input_ids, pixel_values: of our `forward`.
    """
    with TemporaryDirectory() as made:
        folder = Path(made)
        save(folder)
        import_checkpoint(folder, folder / "out", options)
        names = read_peer(open_weights(folder), folder, options).parts
        ours = FlamingoForConditionalGeneration.from_pretrained(folder / "out")
    our_logits, their_logits = ours(input_ids, pixel_values=pixel_values).logits, run_theirs(input_ids)
    agree(row, our_logits, their_logits, "logits")
    for logits in (our_logits, their_logits):
        (logits * _weights(logits)).sum().backward()
    frozen = {name for name, parameter in theirs.named_parameters() if not parameter.requires_grad}
    their_gradients, our_gradients = gradients(theirs), gradients(ours)
    for name in filter(is_trainable, our_gradients):
        if not name.startswith("added_tokens.") and not frozen & {*names(name)}:
            expected = torch.cat([their_gradients[one] for one in names(name)]).reshape(our_gradients[name].shape)
            agree(row, our_gradients[name], expected, f"gradient of {name}")


def shake(module: nn.Module) -> None:
    """Move every weight a little, so that gates are open and norms are no identities."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """By name; zero for a weight that took no part."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in module.named_parameters()
    }


def renamed(*pairs: tuple[str, str]) -> Callable[[Tensors], dict[str, Tensor]]:
    """A translation that replaces parts of names, one pair after the other."""

    def translate(tensors: Tensors) -> dict[str, Tensor]:
        return {_replace(name, pairs): tensor for name, tensor in tensors.items()}

    return translate


def _replace(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in pairs:
        name = name.replace(theirs, ours)
    return name


def _outputs_and_gradients(
    module: nn.Module, run: Callable[..., tuple[Tensor, ...]], inputs: Tensors
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    leaves = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in inputs.items()}
    outputs = run(module, **leaves)
    total = torch.stack([(output * _weights(output)).sum() for output in outputs]).sum()
    total.backward()
    found = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    return tuple(output.detach() for output in outputs), gradients(module) | found


def _weights(output: Tensor) -> Tensor:
    """Fixed, of both signs, and so that the sum stays near 1."""
    count = max(1, output.numel())
    return torch.sin(torch.arange(output.numel(), dtype=torch.float32)).view_as(output) / count**0.5
