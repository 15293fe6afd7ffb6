"""What stands for pictures before there are any: as alike, and as different at each showing, as it is told to be."""

from random import Random

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from data.collate import collate
from data.episodes import FORMATS, binding
from data.picture_book import objects, random_scene
from tests import tiny
from training.starter.language import BAG, INIT, WIDTH, soft_bags, soft_words


@pytest.mark.parametrize("common", [0.0, 0.4, 0.7])
@pytest.mark.parametrize("noise", [0.0, 0.9])
def test_soft_words_are_as_alike_as_told(common: float, noise: float) -> None:
    things, random = objects("trained"), Random(0)
    within, between = [], []
    for seed in range(40):
        scenes = [random_scene("one", [thing], random) for thing in (things[0], things[1], things[0])]
        episode = binding([0, 1, 0], ["dax", "wug"], scenes, form=FORMATS[0])
        batch = collate([episode], tiny.tokenizer())
        soft = soft_words([episode], batch, seed, common=common, noise=noise)[0]
        first, other, again = (soft[batch["text_time"][0] == number][0] for number in (1, 2, 3))
        within.append(cosine_similarity(first, again, dim=0))
        between.append(cosine_similarity(first, other, dim=0))
    signal = 1.4**2 / (1.4**2 + noise**2)  # of a vector's length what is the thing's, the rest is of the showing
    assert torch.stack(within).mean() == pytest.approx(signal, abs=0.03)
    assert torch.stack(between).mean() == pytest.approx(signal * common, abs=0.05)


def test_each_word_of_a_bag_adds_as_much_whatever_stands_beside_it() -> None:
    torch.manual_seed(0)
    words = nn.Embedding(50, WIDTH)
    words.weight.data[4] *= 9
    bag = torch.full((2, 3, BAG), -1)
    listed = {(0, 0): [4], (0, 2): [0, 7, 7], (1, 1): list(range(BAG))}
    for place, ids in listed.items():
        bag[place][: len(ids)] = torch.tensor(ids)
    stands = soft_bags(words, bag)
    for place in ((row, token) for row in range(2) for token in range(3)):
        added = [words.weight[word].detach() / words.weight[word].detach().norm() for word in listed.get(place, [])]
        torch.testing.assert_close(stands[place], sum(added, torch.zeros(WIDTH)) * INIT * WIDTH**0.5)
    assert not stands.requires_grad
