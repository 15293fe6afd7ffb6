"""The measures are the libraries' own: perfect captions, captions of other pictures, and a published example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.suites.words import likeness

TRUE = ["a dog on a red page", "two cats on a blue page", "a green house", "three apples and a pear on white"]


def test_perfect_captions_have_the_highest_scores() -> None:
    best = likeness(TRUE, [[text] for text in TRUE])
    assert best["bleu"] == pytest.approx(100)
    assert best["rouge_l"] == pytest.approx(1)
    moved = likeness([*TRUE[1:], TRUE[0]], [[text] for text in TRUE])
    assert all(moved[name] < best[name] / 2 for name in best)


def test_any_of_several_references_counts() -> None:
    several = [[text, "something else"] for text in TRUE]
    assert likeness(TRUE, several)["rouge_l"] == pytest.approx(1)
    assert likeness(["something else", *TRUE[1:]], several)["rouge_l"] == pytest.approx(1)


def test_rouge_l_is_that_of_its_paper() -> None:
    """Lin 2004, section 3.1: "police killed the gunman" and two candidates; F1 of three and of two of four words."""
    reference = [["police killed the gunman"]]
    assert likeness(["police kill the gunman"], reference)["rouge_l"] == pytest.approx(0.75)
    assert likeness(["the gunman kill police"], reference)["rouge_l"] == pytest.approx(0.5)


def test_what_caption_writes_as_coco_is_read_by_the_fields_own_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pycocotools.coco import COCO

    from flamingo_app.fewshot.records import write_records

    records = [{"file_name": f"{n}.png", "text": text, "score": -0.1} for n, text in enumerate(TRUE)]
    records.append({"file_name": "broken.png", "text": None, "score": None, "error": "broken"})
    with (tmp_path / "out.json").open("w") as file:
        write_records(records, file, "coco", ("file_name", "text", "score"))
    coco = COCO(tmp_path / "out.json")
    results = coco.loadRes(json.loads((tmp_path / "out.json").read_text())["annotations"])
    said = {image["file_name"]: results.imgToAnns[image["id"]] for image in coco.dataset["images"]}
    assert [each["caption"] for each in said["0.png"]] == [TRUE[0]]
    assert said["broken.png"] == []
