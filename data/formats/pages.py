"""Our own episodes as a source: pages of the picture book with captions, chats about them, and made-up names."""

from __future__ import annotations

from random import Random

from torchvision.transforms.functional import to_pil_image

from data.documents import Sample
from data.episodes import random_binding, random_captioned, random_dialogue
from data.picture_book import Kind, Renderer, objects

SIZE = 96
KINDS: tuple[Kind, ...] = ("one", "group", "pair", "mixed")
SHARES = (4, 2, 3, 1)


class PictureBook:
    """So many episodes, each the same whenever it is read.

    Args:
        count: how many.
        seed: of which book.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.renderer = Renderer(SIZE)

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"episode {index}"

    def __getitem__(self, index: int) -> Sample:
        random = Random(f"picture book {self.seed} {index}")
        make = random.choices(("captioned", "dialogue", "binding"), (5, 4, 1))[0]
        if make == "binding":
            episode = random_binding(objects("trained"), random, most_pictures=6)
        else:
            draw = random_captioned if make == "captioned" else random_dialogue
            episode = draw(KINDS, SHARES, objects("trained"), random)
        pictures = tuple(to_pil_image(page) for page in self.renderer(episode.scenes)) if episode.scenes else ()
        return Sample(name=self.name(index), pieces=episode.pieces, pictures=pictures)
