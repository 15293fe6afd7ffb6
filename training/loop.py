"""One training loop for every stage: batches named by their step, warm-up and cosine, resumed exactly.

A batch depends on (seed, step) alone, so a run that was killed and resumed sees what an uninterrupted one sees.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from flamingo_app.workers import end_with_parent
from training import checkpoint
from training.checkpoint import Checkpoint
from training.optimizer import Optimizers

Batch = dict[str, Any]
Watch = Sequence[tuple[int, Callable[[], str]]]  # every so many steps, what is printed


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast to train.

    Args:
        steps: optimiser steps in all.
        learning_rate: at the end of the warm-up; it falls along a half cosine to a twentieth of that.
        matrix_rate: the same for the matrices, which Muon steps (see `training.optimizer`).
        warmup: steps of linear warm-up.
        weight_decay: on matrices alone; gates, norms, biases and embeddings have none.
        betas: of AdamW.
        clip: largest norm of the gradient.
        seed: from which, with the step, every batch is drawn.
        save_seconds: time between checkpoints.
        workers: processes that draw batches ahead; 0 draws them in between.
    """

    steps: int
    learning_rate: float
    matrix_rate: float
    warmup: int = 100
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    seed: int = 0
    save_seconds: float = 90.0
    workers: int = 0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a stage, with a schedule and checkpoints of its own.

    Args:
        phases: up to which share of the steps tasks are drawn in which proportions.
    """

    name: str
    plan: Plan
    phases: tuple[tuple[float, Mapping[str, int]], ...]

    def shares(self, step: int) -> Mapping[str, int]:
        """The proportions of a step."""
        return next(shares for until, shares in self.phases if step < until * self.plan.steps)


@dataclass(frozen=True)
class _Steps(Dataset[Batch]):
    draw: Callable[[int], Batch]
    steps: int
    ahead: bool

    def __getitem__(self, step: int) -> Batch:
        if self.ahead:  # the threads are the trainer's
            torch.set_num_threads(1)
        return self.draw(step)

    def __len__(self) -> int:
        return self.steps


def drawn(draw: Callable[[int], Batch], todo: range, workers: int) -> DataLoader[Batch]:
    """The batches of some steps in their order, drawn ahead by so many processes."""
    return DataLoader(
        _Steps(draw, todo.stop, workers > 0),
        batch_size=None,
        sampler=todo,
        num_workers=workers,
        worker_init_fn=_deaf,
    )


def _deaf(worker: int) -> None:
    """Leave it to the trainer what to do when the whole group of processes is told to stop: it still needs batches."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(worker)


@contextmanager
def listening(told: list[int]) -> Generator[None]:
    """Note signals that politely ask for an end, which can wait for the step under way and for its checkpoint."""

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Schedule(Protocol):
    """How long a run is, and how long it warms up; in steps."""

    @property
    def steps(self) -> int: ...
    @property
    def warmup(self) -> int: ...


def share(step: int, plan: Schedule) -> float:
    """The share of its learning rate that a step has: linear warm-up, then half a cosine down to a twentieth."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    progress = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


def train(
    module: nn.Module,
    draw: Callable[[int], Batch],
    loss: Callable[[Batch], tuple[Tensor, Mapping[str, float]]],
    plan: Plan,
    folder: Path,
    *,
    rates: Mapping[str, float] | None = None,
    watch: Watch = (),
) -> None:
    """Train what requires a gradient in `module`, from the newest checkpoint in `folder` to the plan's last step.

    Args:
        draw: the batch of a step.
        loss: of a batch, with figures to show.
        rates: ending of a parameter's name -> factor on its learning rate, e.g. {"gate": 10.0}; all others 1.
        watch: samples and small evaluations.
    """
    optimizers = Optimizers(
        module,
        rate=plan.learning_rate,
        matrix_rate=plan.matrix_rate,
        weight_decay=plan.weight_decay,
        betas=plan.betas,
        factors=rates or {},
    )
    start = _resume(module, optimizers, plan, folder)
    todo = range(start, plan.steps)
    batches = drawn(draw, todo, plan.workers)
    bar = tqdm(zip(todo, batches, strict=True), total=plan.steps, initial=start, desc=folder.name, mininterval=5)
    saved = time.monotonic()
    for step, batch in bar:
        value, figures = loss(batch)
        if not value.isfinite():
            raise FloatingPointError(
                f"the loss of step {step} is {value.item()}; the last good checkpoint is in {folder}"
            )
        module.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), plan.clip)
        optimizers.step(share(step, plan))
        bar.set_postfix(
            {"loss": f"{value.item():.3f}"} | {name: f"{figure:.3f}" for name, figure in figures.items()}, refresh=False
        )
        for every, describe in watch:
            if (step + 1) % every == 0:
                tqdm.write(f"{folder.name} step {step + 1}: {describe()}")
        if time.monotonic() - saved > plan.save_seconds or step + 1 == plan.steps:
            checkpoint.save(folder, _snapshot(module, optimizers, plan, step + 1))
            saved = time.monotonic()


def _snapshot(module: nn.Module, optimizers: Optimizers, plan: Plan, step: int) -> Checkpoint:
    frozen = {
        name for name, parameter in module.named_parameters(remove_duplicate=False) if not parameter.requires_grad
    }
    state = {name: tensor.clone() for name, tensor in module.state_dict().items() if name not in frozen}
    return Checkpoint(step=step, model=state, optimizer=optimizers.tensors(), notes={"plan": asdict(plan)})


def _resume(module: nn.Module, optimizers: Optimizers, plan: Plan, folder: Path) -> int:
    """Load the newest complete checkpoint and return the step to go on from; 0 where there is none."""
    found = checkpoint.latest(folder)
    if found is None:
        return 0
    module.load_state_dict(found.model, strict=False)
    optimizers.restore(found.optimizer)
    return min(found.step, plan.steps)
