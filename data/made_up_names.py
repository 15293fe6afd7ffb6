"""Names that no language has, for things that are named within one episode only: "dax", "blicket", "wumo"."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from data.picture_book.world import OBJECTS

WORDS = {word for thing in OBJECTS for name in (thing.name, thing.plural) for word in name.split()}
ONSETS = (
    "b",
    "bl",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "sk",
    "t",
    "v",
    "w",
    "z",
)
VOWELS = ("a", "e", "i", "o", "u")
CODAS = ("", "", "x", "g", "p", "ck", "m", "n", "ft", "zz", "ln", "rk")
ALIKE = (4, 2)  # so many beginnings and middles of syllables have names that are alike


def made_up_name(random: Random, onsets: Sequence[str] = ONSETS, vowels: Sequence[str] = VOWELS) -> str:
    """One to three syllables of these beginnings and middles, about 3 to 9 letters."""
    syllables = random.choices((1, 2, 3), (3, 5, 1))[0]
    body = "".join(random.choice(onsets) + random.choice(vowels) for _ in range(syllables - 1))
    return body + random.choice(onsets) + random.choice(vowels) + random.choice(CODAS[2:] if syllables == 1 else CODAS)


def made_up_names(count: int, random: Random, *, alike: bool = False) -> list[str]:
    """So many different names, none the beginning of another (or an answer could be right too early), none a word.

    Args:
        alike: of so few syllables that most are in several names: "dapo", "wuda", "powum".
    """
    sounds = (random.sample(ONSETS, ALIKE[0]), random.sample(VOWELS, ALIKE[1])) if alike else (ONSETS, VOWELS)
    names: list[str] = []
    while len(names) < count:
        name = made_up_name(random, *sounds)
        if name not in WORDS and not any(name.startswith(other) or other.startswith(name) for other in names):
            names.append(name)
    return names
