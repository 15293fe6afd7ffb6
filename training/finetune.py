"""A fine-tuning run: from settings to a model, resumed exactly.

prepare   the data without its faults, the model with what is to learn    training.preparing
draw      a step's samples, from (seed, step) alone                        training.draw
step      loss over the labels of all processes, AdamW                     training.objective
save      whole or not at all                                              training.checkpoint
finish    the model and its card                                           training.run_card
"""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import Tensor
from torch.optim import AdamW
from tqdm import tqdm

from data.feature_cache import FeatureCache
from data.mixture import Order
from flamingo_app.errors import ConfigError, TrainingError
from flamingo_app.model.backbones import fingerprint
from training import checkpoint, hub, kernels, run_card, sharding
from training.checkpoint import Checkpoint
from training.draw import Draw
from training.gates import gates, warning
from training.held_out import Figures, measure
from training.journal import Journal
from training.loop import drawn, listening, share
from training.objective import row_losses
from training.optimizer import adamw_groups
from training.preparing import Material, fill_cache
from training.remembering import remembered_losses
from training.settings import Settings, check_continuation

BETAS = (0.9, 0.98)


class Finetuning:
    """One run; `train` goes on from where its folder is.

    Args:
        material: as `prepare` made it.
        accelerator: of the launcher.
        shard: spread the frozen weights over the processes.

    Raises:
        ConfigError: the folder holds another run.
    """

    def __init__(
        self, settings: Settings, material: Material, accelerator: Accelerator, *, shard: bool = False
    ) -> None:
        self.settings, self.material, self.accelerator = settings, material, accelerator
        self.model = material.model
        if accelerator.device.type == "cpu" and accelerator.mixed_precision == "no":
            kernels.use_faster(self.model)
        order = Order(material.ingredients, settings.seed)
        self.draw = Draw(
            order=order,
            reader=material.reader,
            cache=self._cache(),
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            processes=accelerator.num_processes,
            process=accelerator.process_index,
            last=None if settings.steps else max(1, round(settings.epochs * order.epoch_length)),
        )
        self.steps = settings.steps or math.ceil(cast(int, self.draw.last) / self.draw.per_step)
        self.warmup = math.ceil(settings.warmup * self.steps)
        self.seen = self.skipped = 0
        self.folder = settings.output / "checkpoints"
        self.notes = {"settings": settings.as_json(), "processes": accelerator.num_processes, "data": self._data()}
        if shard and accelerator.num_processes > 1:
            self._say(sharding.shard(self.model, accelerator.device.type, accelerator.num_processes))
        self.frozen = self._hash_of_frozen()
        groups = adamw_groups(self.model, weight_decay=settings.weight_decay, gate_rate=settings.gate_rate)
        optimizer = AdamW([*groups], lr=settings.learning_rate, betas=BETAS, fused=True)
        self.wrapped, self.optimizer = accelerator.prepare(self.model, optimizer)
        self.figures: dict[str, Figures] = {}
        self.start = self._resume()
        self.told: list[int] = []  # signals that asked for an end

    def _cache(self) -> FeatureCache | None:
        """The feature cache, every picture in it; one process writes while the others wait."""
        if self.settings.feature_cache is None:
            return None
        self.model.to(self.accelerator.device)
        with self.accelerator.main_process_first():
            return fill_cache(self.settings.feature_cache, self.material, write=self.accelerator.is_main_process)

    def _data(self) -> list[list[Any]]:
        return [[each.path, len(each.source), len(each.kept)] for each in self.material.ingredients]

    def _resume(self) -> int:
        """The step to go on from: that of the newest whole checkpoint, or 0."""
        if not self.settings.resume:
            return 0
        found = checkpoint.latest(
            self.folder, passed_over=lambda path: self._say(f"{path} is damaged, and passed over")
        )
        if found is None:
            self._say(f"no whole checkpoint in {self.folder}: beginning at step 0")
            return 0
        check_continuation(found.notes["settings"], self.settings.as_json())
        for what in ("processes", "data"):
            if found.notes[what] != self.notes[what]:
                raise ConfigError(
                    expected=f"the {what} that the run in --output began with: {found.notes[what]}",
                    got=str(self.notes[what]),
                    remedy="restore them, or choose another --output",
                )
        self.model.load_state_dict(found.model, strict=False)
        checkpoint.restore_optimizer(self.optimizer.optimizer, found.optimizer)
        self.seen, self.skipped = found.notes["seen"], found.notes["skipped"]
        self.figures = {when: Figures.from_json(each) for when, each in found.notes["figures"].items()}
        self._say(f"going on from step {found.step} of {self.steps}")
        return found.step

    def train(self) -> int:
        """Train to the end, or until told to stop; returns the exit status."""
        with listening(self.told):
            return self._train()

    def _train(self) -> int:
        journal = Journal(self.settings.output / "log.jsonl", self.start) if self.accelerator.is_main_process else None
        if self.start == 0:
            self._evaluate("before", 0)
            self._save(0)
        todo = range(self.start, self.steps)
        bar = tqdm(
            zip(todo, drawn(self.draw, todo, self.settings.workers), strict=True),
            desc=self.settings.output.name,
            total=self.steps,
            initial=self.start,
            disable=not self.accelerator.is_main_process,
            mininterval=1,
        )
        for step, batch in bar:
            line = self._step(step, batch)
            if journal:
                journal.write(line)
                bar.set_postfix_str(f"loss {line['loss']:.3f}", refresh=False)
                self.accelerator.log(_flat(line), step=step + 1)
            every = self.settings.eval_every
            if every and (step + 1) % every == 0 and step + 1 < self.steps:
                self._evaluate(f"step {step + 1}", step + 1)
            stop = self._agreed(bool(self.told))
            if stop or (step + 1) % self.settings.save_every == 0 or step + 1 == self.steps:
                if journal:
                    journal.sync()
                self._save(step + 1)
            if stop and step + 1 < self.steps:
                self.accelerator.end_training()
                self._say(f"told to stop: saved step {step + 1}; go on with --resume latest")
                return 128 + (self.told[-1] if self.told else signal.SIGTERM)
        self._evaluate("after", self.steps)
        self._finish()
        return 0

    def _step(self, step: int, drawn_batch: dict[str, Any]) -> dict[str, Any]:
        """One optimiser step, as a line of the journal."""
        # Whatever chance there is, such as an adapter's dropout, hangs on the step alone too.
        torch.manual_seed((self.settings.seed * 1_000_003 + step) * 1_009 + self.accelerator.process_index)
        batches = drawn_batch["batches"]
        self._count_skipped(step, batches)
        labels = self._sum(sum(batch["labels"] for batch in batches))
        total, bad = torch.zeros((), device=self.accelerator.device), list[str]()
        for number, batch in enumerate(batches):
            tensors = send_to_device(batch["tensors"], self.accelerator.device)
            last = number + 1 == len(batches)
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                rows = self._row_losses(tensors)
                bad += [name for name, row in zip(batch["names"], rows.tolist(), strict=True) if not math.isfinite(row)]
                # Gradients are averaged over processes; the loss is a mean over the labels of all of them.
                self.accelerator.backward(rows.sum() * self.accelerator.num_processes / max(1, labels))
            total += rows.detach().sum()
        self._share_gradients()
        norm = cast(Tensor, self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.settings.clip)).item()
        self._refuse_nan(step, bad, norm, [name for batch in batches for name in batch["names"]])
        factor = share(step, self)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * group["factor"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "step": step,
            "loss": self._sum(total) / max(1, labels),
            "rate": self.settings.learning_rate * factor,
            "norm": norm,
            "labels": labels,
            "gates": gates(self.model),
            "samples": self.draw.samples(step),
        }

    def _row_losses(self, tensors: Mapping[str, Any]) -> Tensor:
        if self.material.reader.remembers:
            return remembered_losses(self.model, tensors)
        return row_losses(self.wrapped, tensors)

    def _share_gradients(self) -> None:
        """Average what the launcher's wrapper knows nothing of: a memory learns outside of the forward it wraps."""
        if self.material.reader.remembers and self.accelerator.num_processes > 1:
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    parameter.grad = cast(Tensor, self.accelerator.reduce(grad, "mean"))

    def _sum(self, value: Any) -> Any:
        """A number summed over processes."""
        if self.accelerator.num_processes == 1:
            return value.item() if isinstance(value, Tensor) else value
        tensor = torch.as_tensor(value, device=self.accelerator.device)
        return cast(Tensor, self.accelerator.reduce(tensor, "sum")).item()

    def _agreed(self, here: bool) -> bool:
        """Whether any process says so."""
        return self._sum(int(here)) > 0

    def _count_skipped(self, step: int, batches: list[dict[str, Any]]) -> None:
        """Name what could not be read, and stop where it is too much.

        Raises:
            TrainingError: more than `max_bad` of what was drawn so far.
        """
        skipped: list[str] = [why for batch in batches for why in batch["skipped"]]
        if self.accelerator.num_processes > 1:
            skipped = gather_object(skipped)
        for why in skipped:
            self._say(f"skipped at step {step}: {why}")
        self.seen += self.draw.per_step
        self.skipped += len(skipped)
        if self.skipped > max(1, self.settings.max_bad * max(self.seen, 100)):
            raise TrainingError(
                expected=f"at most {100 * self.settings.max_bad:g}% of the samples to be unreadable",
                got=f"{self.skipped} of {self.seen} by step {step}, the last of them {skipped[-1]}",
                remedy="look at the whole data with --check, correct it, and go on with --resume latest",
            )

    def _refuse_nan(self, step: int, bad: list[str], norm: float, names: list[str]) -> None:
        """Stop before a loss or gradient that is no number reaches a weight.

        Raises:
            TrainingError: naming the samples.
        """
        lost = not math.isfinite(norm) and self.accelerator.scaler is None
        if self._agreed(bool(bad) or lost):
            of = bad or (names if lost else [])
            if self.accelerator.num_processes > 1:
                of = gather_object(of)
            raise TrainingError(
                expected=f"a finite loss and gradient at step {step}",
                got=f"none from {', '.join(of)}",
                remedy=f"the last good checkpoint is in {self.folder}; look at these samples, or lower --learning-rate",
            )

    def _save(self, step: int) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: a weight is no number any more; the checkpoint before stays.
        """
        if not all(p.isfinite().all() for p in self.model.parameters() if p.requires_grad):
            raise TrainingError(
                expected=f"finite weights after step {step}",
                got="some that are none",
                remedy=f"the last good checkpoint is in {self.folder}; begin another run with a lower --learning-rate",
            )
        if self.accelerator.is_main_process:
            state = {name: p.detach().cpu() for name, p in self.model.named_parameters() if p.requires_grad}
            tensors = checkpoint.optimizer_tensors(self.optimizer.optimizer)
            figures = {when: each.as_json() for when, each in self.figures.items()}
            notes = self.notes | {"seen": self.seen, "skipped": self.skipped, "figures": figures}
            found = Checkpoint(step=step, model=state, optimizer=tensors, notes=notes)
            checkpoint.save(self.folder, found, keep=self.settings.keep)
        self.accelerator.wait_for_everyone()

    def _evaluate(self, when: str, step: int) -> None:
        """Measure and show; every process does the same, so that none waits for parts of the model."""
        if self.material.held_out:
            figures = measure(self.model, self.material.reader, self.material.held_out)
            self.figures[when] = figures
            self._say("\n".join(figures.lines(when)))
            values = {"held_out/loss": figures.loss}
            values |= {"held_out/exact": figures.exact.accuracy} if figures.exact else {}
            self.accelerator.log(values, step=step)
        if step > self.warmup and (shut := warning(gates(self.model), step)):
            self._say(shut)

    def _hash_of_frozen(self) -> str:
        """Of this process's part of all weights that do not learn, running statistics among them."""
        learning = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        state = self.model.state_dict()
        return fingerprint({name: sharding.local(tensor) for name, tensor in state.items() if name not in learning})

    def _finish(self) -> None:
        """Write the model, its processor and its card where `load` and the chat find them."""
        assert self._hash_of_frozen() == self.frozen, "a frozen weight has moved"
        self._say(f"frozen weights: sha256 {self.frozen} before and after")
        if self.accelerator.is_main_process:
            run_card.export(self)
            if self.settings.push_to_hub:
                hub.push(self.settings.output, self.settings.push_to_hub, dry_run=self.settings.dry_run)
            self._say(f"the model is in {self.settings.output}; talk to it: make chat MODEL={self.settings.output}")
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    def _say(self, line: str) -> None:
        if self.accelerator.is_main_process:
            tqdm.write(line)


def _flat(line: dict[str, Any]) -> dict[str, float]:
    """A journal's line as trackers take it."""
    values = {name: line[name] for name in ("loss", "rate", "norm")}
    return values | {f"gates/{name}": value for name, value in line["gates"].items()}
