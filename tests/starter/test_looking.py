"""Where a word that asks about a thing looks, while the starter is trained: at that thing."""

from random import Random

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from data import captions
from data.episodes import Episode, dialogue
from data.picture_book import Scene, objects, random_scene
from flamingo_app import load
from flamingo_app.model.looking import rollout
from flamingo_app.prompt import Mark
from training.starter.flamingo import CELLS, cells, looks, seen_of

THINGS = objects("trained")
PAGES, LATENTS = 2, 5


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return load("starter")[1].tokenizer


def asked(words: str, *scenes: Scene) -> Episode:
    return dialogue([((*[Mark.IMAGE] * len(scenes), words), "yes.")], scenes)


def test_the_word_that_names_the_thing_looks_at_its_place(tokenizer: PreTrainedTokenizerFast) -> None:
    pages = [random_scene("pair", THINGS, Random(seed)) for seed in range(2)]
    wanted = pages[1].objects[0]
    episode = asked(f"please, where is the {wanted.thing.name}?", *pages)
    found = looks([asked("hello", pages[0]), episode], tokenizer)
    assert (found["row"].tolist(), found["picture"].tolist()) == ([1], [1])
    ids = [token for piece, _ in episode.pieces for token in tokenizer.encode(getattr(piece, "value", piece))]
    assert tokenizer.decode(ids[: found["token"][0] + 1]).endswith(wanted.thing.name)
    assert found["cells"][0].view(CELLS, CELLS)[int(wanted.y * CELLS), int(wanted.x * CELLS)] == 1


@pytest.mark.parametrize("words", ["what is left of the {}?", "what is this?", "is there a {}?"])
def test_other_words_look_where_they_will(tokenizer: PreTrainedTokenizerFast, words: str) -> None:
    page = random_scene("pair", THINGS, Random(0))
    absent = next(thing.name for thing in THINGS if thing not in page.counts)
    name = page.objects[0].thing.name if "left" in words else absent
    assert len(looks([asked(words.format(name), page)], tokenizer)["row"]) == 0


def test_a_thing_as_small_as_a_cell_has_one() -> None:
    for seed in range(50):
        page = random_scene("mixed", THINGS, Random(seed))
        assert all(cells([placed]).sum() >= 1 for placed in page.objects)


def test_what_is_seen_is_a_share() -> None:
    torch.manual_seed(0)
    layers = [torch.rand(PAGES, LATENTS, CELLS**2 + LATENTS).softmax(-1) for _ in range(2)]
    taken = [torch.rand(2, PAGES * LATENTS, requires_grad=True) for _ in range(3)]
    words = {"row": torch.tensor([0, 0]), "picture": torch.tensor([0, 1])}
    some = (torch.rand(2, CELLS**2) < 0.5).float()
    of_some, of_others, of_all = (
        seen_of(taken, list(layers), words | {"cells": shown}) for shown in (some, 1 - some, torch.ones_like(some))
    )
    torch.testing.assert_close(of_some + of_others, of_all)
    torch.testing.assert_close(of_all, torch.ones(3, 2))
    of_some[0, 0].backward()
    assert taken[0].grad is not None
    assert taken[0].grad[0, :LATENTS].abs().sum() > 0
    assert taken[0].grad[0, LATENTS:].abs().sum() == 0  # the other picture


def test_a_latent_that_took_one_cell_shows_that_cell() -> None:
    weights = torch.zeros(1, 1, CELLS**2 + 1)
    weights[..., 9] = 1.0
    taken = [torch.ones(1, 1)]
    words = {name: torch.zeros(1, dtype=torch.long) for name in ("row", "picture")}
    (seen,) = seen_of(taken, [weights], words | {"cells": torch.eye(CELLS**2)[9:10]})
    assert seen.item() == pytest.approx(1.0)
    assert rollout([weights], CELLS**2)[0, 0, 9] == 1.0


def test_what_a_question_is_about() -> None:
    assert captions.looked_for("how many dogs are there?") == "dogs"
    assert captions.looked_for("what is above the dog?") == ""
