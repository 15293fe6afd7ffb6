"""Batches of the Flamingo's lessons: how episodes are grouped is a matter of time alone."""

from random import Random

import pytest
import torch
from torch.testing import assert_close
from transformers import PreTrainedTokenizerFast

from data.collate import collate
from data.episodes import ORDINALS, Episode, captioned, dialogue, random_binding
from data.picture_book import objects, random_scene
from data.picture_book.invented import invented
from flamingo_app.model.backbones import STARTER
from flamingo_app.prompt import Mark, encode
from training.starter import flamingo
from training.starter.flamingo import LESSON, LONGEST_TALK, Draw, begin, predict
from training.starter.language import description
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


def told(episode: Episode) -> list[tuple[int, str, bool]]:
    """(token, words, whether they are an answer) of what the first block is to write in an episode."""
    of = flamingo.tells([episode], collate([episode], tokenizer()), tokenizer())
    words = [tokenizer().decode([word for word in bag if word >= 0]).strip() for bag in of["bag"].tolist()]
    return list(zip(of["token"].tolist(), words, of["asked"].tolist(), strict=True))


def test_a_page_is_told_at_every_token_that_sees_it_and_the_answer_where_it_is_asked_for() -> None:
    random = Random(2)
    scene = random_scene("one", objects("trained"), random, colour="blue")
    name = scene.objects[0].thing.name
    episode = dialogue([((Mark.IMAGE, f"where is the {name}?"), "in the middle.")], [scene])
    found = told(episode)
    assert {words for _, words, asked in found if not asked} == {f"first {description(scene).strip()}"}
    assert {words for _, words, asked in found if asked} == {"in the middle"}
    ids = encode(tuple(piece for piece, _ in episode.pieces), tokenizer())
    (image_token,) = encode((Mark.IMAGE,), tokenizer())
    assert [token for token, _, _ in found] == list(range(ids.index(image_token), len(ids)))


def test_of_several_pages_each_is_told_at_its_picture_with_its_order() -> None:
    random = Random(3)
    scenes = [random_scene("one", objects("trained"), random) for _ in range(3)]
    episode = captioned(scenes)
    ids = encode(tuple(piece for piece, _ in episode.pieces), tokenizer())
    (image_token,) = encode((Mark.IMAGE,), tokenizer())
    assert told(episode) == [
        (place, f"{order} {description(scene).strip()}", False)
        for place, order, scene in zip(
            [n for n, word in enumerate(ids) if word == image_token], ORDINALS, scenes, strict=False
        )
    ]


def test_nothing_is_told_of_things_without_a_name() -> None:
    random = Random(4)
    assert not told(random_binding(invented(4, objects("trained"), random), random, made_up=1.0))
