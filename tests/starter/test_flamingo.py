"""Batches of the Flamingo's lessons: how episodes are grouped is a matter of time alone."""

from random import Random

import pytest
import torch
from torch.testing import assert_close
from transformers import PreTrainedTokenizerFast

from flamingo_app.model.backbones import STARTER
from flamingo_app.prompt import encode
from training.starter import flamingo
from training.starter.flamingo import LESSON, LONGEST_TALK, Draw, begin, predict
from training.suites.reader import Reader


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("stages")
    for name in ("vision", "text"):
        (folder / name).symlink_to(STARTER / name)
    return begin(folder, tokenizer(), LESSON)


def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(STARTER)


def test_groups_have_pictures_alike(reader: Reader) -> None:
    part = LESSON
    batch = Draw(tokenizer(), reader.model.vision_encoder, part)(part.plan.steps - 1)
    shown = [group["image_mask"].shape[1] for group in batch["groups"]]
    assert len(set(shown)) > 1, "nothing to group"
    assert shown == sorted(shown)
    assert all(group["image_mask"].all() for group in batch["groups"])
    assert sum(group["image_mask"].sum().item() for group in batch["groups"]) >= flamingo.PICTURES


def test_the_loss_is_the_same_however_episodes_are_grouped(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    part, losses = LESSON, []
    draw = Draw(tokenizer(), reader.model.vision_encoder, part)
    monkeypatch.setattr(flamingo, "PICTURES", 20)
    for most, of in ((24, flamingo.groupby), (1, flamingo.groupby), (99, lambda episodes, key: [(0, episodes)])):
        monkeypatch.setattr(flamingo, "GROUP", most)
        monkeypatch.setattr(flamingo, "groupby", of)
        with torch.no_grad():
            losses.append(predict(reader.model, draw(part.plan.steps - 1)))
    for loss, figures in losses[1:]:
        assert_close(loss, losses[0][0], atol=2e-4, rtol=1e-4)
        assert figures == pytest.approx(losses[0][1], abs=1e-3)


def test_long_talks_fit_into_a_window(reader: Reader) -> None:
    draw, random = Draw(tokenizer(), reader.model.vision_encoder, LESSON), Random(1)
    for _ in range(30):
        episode = draw.tasks["talk"](random)
        assert len(encode(tuple(piece for piece, _ in episode.pieces), draw.tokenizer)) <= LONGEST_TALK
