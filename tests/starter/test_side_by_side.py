"""Comparisons of lessons, on lessons of two steps: every kind is taught and asked alike."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flamingo_app.model.backbones import STARTER
from training.loop import Part
from training.starter import attend_modes, flamingo, seeds


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stages before would have left; batches are small."""
    monkeypatch.setattr(flamingo, "PICTURES", 6)
    for name, target in (("vision", STARTER / "vision"), ("text", STARTER / "text"), ("tokenizer", STARTER)):
        (tmp_path / name).symlink_to(target)
    return tmp_path


def short(lesson: Part, **shares: int) -> Part:
    return replace(lesson, plan=replace(lesson.plan, steps=2, warmup=1, workers=0), phases=((1.0, shares),))


def figures(comparison: Any, folder: Path, kinds: tuple[str, ...]) -> dict[str, Any]:
    """One kind at a time, beside what is there."""
    name = comparison.__name__.split(".")[-1]
    for kind in kinds:
        comparison.main(["--folder", str(folder), "--output", str(folder / "runs"), "--only", kind])
    return json.loads((folder / "runs" / f"{name}.json").read_text())["suites"]


def test_both_ways_to_attend(stages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend_modes, "LESSON", short(attend_modes.LESSON, name=1, which=1))
    monkeypatch.setattr(attend_modes, "ITEMS", 2)
    results = figures(attend_modes, stages, ("latest", "all_previous"))
    assert list(results) == ["latest", "all_previous"]
    for scores in results.values():
        assert {"one object", "2 way 1 shot", "5 way 4 shot", "which picture"} <= set(scores)
        assert all(score["count"] == 2 for score in scores.values())


def test_seeds_begin_apart(stages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "LESSON", short(seeds.LESSON, name=1, met=1))
    monkeypatch.setattr(seeds, "ITEMS", 2)
    monkeypatch.setattr(seeds, "POINTS", ("2_way_1_shot",))
    begun: list[float] = []
    begin = flamingo.begin

    def noted(*args: Any) -> Any:
        reader = begin(*args)
        begun.append(reader.model.resampler.latents.sum().item())
        return reader

    monkeypatch.setattr(flamingo, "begin", noted)
    results = figures(seeds, stages, ("seed 1", "seed 2"))
    assert list(results) == ["seed 1", "seed 2"]
    for scores in results.values():
        assert set(scores) == {f"2_way_1_shot{control}" for control in seeds.CONTROLS}
    assert begun[0] != begun[1]
