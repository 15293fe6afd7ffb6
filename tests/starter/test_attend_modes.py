"""The comparison of both ways to attend, on a lesson of two steps: it teaches and asks both the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flamingo_app.model.backbones import STARTER
from training.starter import attend_modes


def test_both_ways_are_taught_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, target in (("vision", STARTER / "vision"), ("text", STARTER / "text"), ("tokenizer", STARTER)):
        (tmp_path / name).symlink_to(target)
    lesson = attend_modes.LESSON
    short = replace(lesson, plan=replace(lesson.plan, steps=2, warmup=1), phases=((1.0, {"name": 1, "which": 1}),))
    monkeypatch.setattr(attend_modes, "LESSON", short)
    monkeypatch.setattr(attend_modes, "ITEMS", 2)
    for mode in ("latest", "all_previous"):  # one at a time, beside what is there
        attend_modes.main(["--folder", str(tmp_path), "--output", str(tmp_path / "runs"), "--only", mode])
    results = json.loads((tmp_path / "runs" / "attend_modes.json").read_text())["suites"]
    assert list(results) == ["latest", "all_previous"]
    for figures in results.values():
        assert {"one object", "2 way 1 shot", "5 way 4 shot", "which picture"} <= set(figures)
        assert all(score["count"] == 2 for score in figures.values())
