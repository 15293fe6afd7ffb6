"""The loop: resumed equals uninterrupted, and only what asks for a gradient moves."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from training.loop import Batch, Plan, share, train

PLAN = Plan(steps=12, learning_rate=1e-2, matrix_rate=1e-2, warmup=3, save_seconds=0.0)


class Draw:
    """A batch that depends on its step alone; `stop_at` stands for a kill."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at

    def __call__(self, step: int) -> Batch:
        if step == self.stop_at:
            raise KeyboardInterrupt
        return {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(step))}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))


def fit(module: nn.Module, folder: Path, draw: Draw, plan: Plan = PLAN) -> None:
    train(module, draw, lambda batch: (module(batch["x"]).square().mean(), {}), plan, folder, rates={"bias": 10.0})


@pytest.mark.parametrize("stop_at", [1, 6, 11])
def test_resumed_equals_uninterrupted(tmp_path: Path, stop_at: int) -> None:
    whole = network()
    fit(whole, tmp_path / "whole", Draw())
    with pytest.raises(KeyboardInterrupt):
        fit(network(), tmp_path / "cut", Draw(stop_at))
    resumed = network()
    fit(resumed, tmp_path / "cut", Draw())
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone, helped = network(), network()
    fit(alone, tmp_path / "alone", Draw())
    fit(helped, tmp_path / "helped", Draw(), replace(PLAN, workers=1))
    assert all(
        torch.equal(a, b) for a, b in zip(alone.state_dict().values(), helped.state_dict().values(), strict=True)
    )


def test_what_is_frozen_stays(tmp_path: Path) -> None:
    module = network()
    module[0].requires_grad_(False)
    before = [parameter.clone() for parameter in module[0].parameters()]
    fit(module, tmp_path, Draw())
    assert all(torch.equal(a, b) for a, b in zip(before, module[0].parameters(), strict=True))


def test_a_loss_that_is_not_a_number_stops_the_run_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    module = network()
    fit(module, tmp_path, Draw(), replace(PLAN, steps=2))
    with pytest.raises(FloatingPointError, match="step 2"):
        train(module, Draw(), lambda batch: (module(batch["x"]).mean() * float("nan"), {}), PLAN, tmp_path)
    assert (tmp_path / "step-0000002").is_dir()


def test_the_rate_rises_then_falls() -> None:
    rates = [share(step, replace(PLAN, steps=100, warmup=10)) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert max(rates) == 1
    assert rates[-1] < 0.06
