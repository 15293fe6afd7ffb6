"""A scene in words: captions, and questions with their answers. Everything said here is true of the scene."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from data.picture_book.scene import Placed, Scene, side
from data.picture_book.world import OBJECTS, Object

NUMBERS = ("no", "one", "two", "three", "four", "five")
UNKNOWN = "this looks like a photograph. i only know picture-book scenes."
NOTHING = "nothing"
UNCOUNTABLE = ("fries", "bacon", "sushi", "broccoli")

Question = tuple[str, str]  # what is asked, and the answer


def noun(thing: Object, count: int = 1) -> str:
    """ "a dog", "an owl", "two dogs": a thing with its number."""
    if count == 1:
        return _with_article(thing.name) if thing.name not in UNCOUNTABLE else thing.name
    return f"{NUMBERS[count]} {thing.plural}"


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' and words != 'unicorn' else 'a'} {words}"


def listing(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def things(scene: Scene) -> str:
    """What is on the page: "two dogs and a cat", from left to right."""
    counts = Counter(placed.thing for placed in sorted(scene.objects, key=lambda placed: placed.x))
    return listing([noun(thing, count) for thing, count in counts.items()]) if counts else NOTHING


def caption(scene: Scene) -> str:
    """The caption that the starter gives by default: "two dogs and a cat on a blue background."."""
    if scene.style == "photo":
        return UNKNOWN
    return f"{things(scene)} on {_background(scene)}."


def _background(scene: Scene) -> str:
    return _with_article(f"{scene.colour} background")


def alternative_caption(scene: Scene, random: Random) -> str:
    """Other true captions: often without the background, and with the relation of a pair where it is clear."""
    if scene.style == "photo":
        return UNKNOWN
    end = f" on {_background(scene)}." if random.random() < 0.4 else "."
    relation = side(scene.objects[0], scene.objects[1]) if len(scene.objects) == 2 else None
    if relation is None or len(scene.counts) != 2 or random.random() < 0.4:
        return things(scene) + end
    first, second = (noun(placed.thing) for placed in scene.objects)
    where = f"to the {relation} of" if relation in ("left", "right") else relation
    return f"{first} {where} {second}{end}"


def tags(scene: Scene) -> str:
    """ "dog, cat, blue": names alone, from left to right, and the colour."""
    counts = Counter(placed.thing for placed in sorted(scene.objects, key=lambda placed: placed.x))
    return ", ".join([*(thing.name for thing in counts), scene.colour])


# Ways of captioning that shots can teach: each says what is there, in a form of its own.
STYLES: dict[str, Callable[[Scene], str]] = {
    "plain": caption,
    "short": lambda scene: f"{things(scene)}.",
    "tags": tags,
    "colour first": lambda scene: f"{scene.colour}: {things(scene)}",
    "shown": lambda scene: f"this picture shows {things(scene)}.",
}

# What shots can ask for without a word of asking: how many there are, on what background, what stands leftmost.
RULES: dict[str, Callable[[Scene], str]] = {
    "count": lambda scene: NUMBERS[len(scene.objects)],
    "colour": lambda scene: scene.colour,
    "leftmost": lambda scene: noun(min(scene.objects, key=lambda placed: placed.x).thing),
}


def _operate(operate: Callable[[int, int], int]) -> Callable[[Scene], str]:
    return lambda scene: NUMBERS[operate(*scene.counts.values())]


# What shots can ask of a page of two kinds, again without a word: which operation makes the number of their numbers.
OPERATORS: dict[str, Callable[[Scene], str]] = {
    "sum": _operate(lambda a, b: a + b),
    "difference": _operate(lambda a, b: abs(a - b)),
    "larger": _operate(max),
}


# Questions. Each function asks one thing of a scene, or returns None where the scene cannot be asked.

WHAT = (
    "what is this?", "what is in the picture?", "what do you see?", "what is it?", "what can you see?",
    "what is shown here?", "what does the picture show?", "what is in this image?", "what is that?", "what's this?",
    "what is on the page?",
)  # fmt: skip
DESCRIBE = (
    "describe the picture.", "describe this picture.", "describe the image.",
    "what does the whole picture look like?", "caption this.", "describe what you see.", "write a caption.",
    "tell me about the picture.",
)  # fmt: skip
COUNT = (
    "how many {} are there?", "how many {} are in the picture?", "how many {} do you see?",
    "how many {} can you see?", "count the {}.", "how many {}?", "how many {} are in this picture?",
    "what is the number of {}?", "how many {} are shown?",
)  # fmt: skip
EXISTS = (
    "is there {} in the picture?", "is there {}?", "do you see {}?", "can you see {}?", "is there {} here?",
    "does the picture show {}?",
)  # fmt: skip
COLOUR = (
    "what color is the background?", "what colour is the background?", "which color is the background?",
    "what is the color of the background?", "what is the background color?", "which colour does the page have?",
    "what color is the page?",
)  # fmt: skip
SIDE = {
    "left": ("what is on the left?", "what is on the left side?", "what do you see on the left?"),
    "right": ("what is on the right?", "what is on the right side?", "what do you see on the right?"),
    "above": ("what is at the top?", "what is on top?", "what do you see at the top?"),
    "below": ("what is at the bottom?", "what is below?", "what do you see at the bottom?"),
}
RELATIVE = {
    "left": ("what is to the left of the {}?", "what is left of the {}?"),
    "right": ("what is to the right of the {}?", "what is right of the {}?"),
    "above": ("what is above the {}?", "what is over the {}?"),
    "below": ("what is below the {}?", "what is under the {}?"),
}
WHERE = ("where is the {}?", "where in the picture is the {}?", "on which side is the {}?")
PLACES = {"left": "on the left", "right": "on the right", "above": "at the top", "below": "at the bottom"}
SIDES = {side: words.split()[-1] for side, words in PLACES.items()}
OFF = 0.12  # so far from the page's middle a thing alone must stand to be on a side
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def ask_what(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> Question:
    if scene.style == "photo":
        return random.choice(WHAT + DESCRIBE), UNKNOWN
    if random.random() < 0.3:
        return random.choice(DESCRIBE), caption(scene)
    return random.choice(WHAT), f"{things(scene)}."


def ask_count(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> Question | None:
    if not scene.counts:
        return None
    if random.random() < 0.1:
        return random.choice(COUNT).format(random.choice(["things", "objects"])), f"{NUMBERS[len(scene.objects)]}."
    if random.random() < 0.08:
        absent = random.choice([thing for thing in vocabulary if thing not in scene.counts])
        return random.choice(COUNT).format(absent.plural), "none."
    thing, count = random.choice(list(scene.counts.items()))
    return random.choice(COUNT).format(thing.plural), f"{NUMBERS[count]}."


def ask_exists(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> Question | None:
    if scene.style == "photo":
        return None
    if scene.counts and random.random() < 0.5:
        return random.choice(EXISTS).format(noun(random.choice(list(scene.counts)))), "yes."
    absent = random.choice([thing for thing in vocabulary if thing not in scene.counts])
    return random.choice(EXISTS).format(noun(absent)), "no."


def ask_colour(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> Question | None:
    return None if scene.style == "photo" else (random.choice(COLOUR), f"{scene.colour}.")


def ask_position(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> Question | None:
    if (pair := _two_placed(scene, random)) is None:
        return None
    first, second, where = pair
    form = random.random()
    if form < 0.4:
        return random.choice(SIDE[where]), f"{noun(first.thing)}."
    if form < 0.7:
        return random.choice(RELATIVE[where]).format(second.thing.name), f"{noun(first.thing)}."
    return random.choice(WHERE).format(first.thing.name), f"{PLACES[where]}."


def _two_placed(scene: Scene, random: Random) -> tuple[Placed, Placed, str] | None:
    """Two different things in either order, and where the first stands; None where nobody could say."""
    if len(scene.objects) != 2 or len(scene.counts) != 2:
        return None
    first, second = random.sample(scene.objects, 2)
    where = side(first, second)
    return None if where is None else (first, second, where)


def ask_placed(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> Question | None:
    """On which side something is, or what is there: what can only be told from places."""
    if len(scene.objects) == 1:
        (only,) = scene.objects
        where = side(only, replace(only, x=0.5, y=0.5)) if max(abs(only.x - 0.5), abs(only.y - 0.5)) > OFF else None
        return where and (random.choice(WHERE).format(only.thing.name), f"{PLACES[where]}.")
    if (pair := _two_placed(scene, random)) is None:
        return None
    first, _, where = pair
    if where in ("left", "right") and random.random() < 0.6:  # captions tell those by their order
        return None
    if random.random() < 0.3:
        return random.choice(SIDE[where]), f"{noun(first.thing)}."
    return random.choice(WHERE).format(first.thing.name), f"{PLACES[where]}."


def list_places(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> list[Question]:
    """Each of two things with its side, or the sides with what is there."""
    if (pair := _two_placed(scene, random)) is None:
        return []
    first, second, where = pair
    found = [(first.thing.name, SIDES[where]), (second.thing.name, SIDES[OPPOSITE[where]])]
    return found if random.random() < 0.7 else [(there, name) for name, there in found]


def list_presence(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> list[Question]:
    """Things that are there and things that are not."""
    absent = random.sample([thing for thing in vocabulary if thing not in scene.counts], random.randint(1, 3))
    return [(thing.name, "yes") for thing in scene.counts] + [(thing.name, "no") for thing in absent]


def list_counts(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> list[Question]:
    """How many of each thing there are, and none of another."""
    absent = random.choice([thing for thing in vocabulary if thing not in scene.counts])
    return [(thing.plural, NUMBERS[count]) for thing, count in scene.counts.items()] + [(absent.plural, "none")]


LISTS = (list_places, list_places, list_presence, list_counts)  # places are the hardest

ASK: dict[str, Callable[[Scene, Random, Sequence[Object]], Question | None]] = {
    "what": ask_what,
    "count": ask_count,
    "exists": ask_exists,
    "colour": ask_colour,
    "position": ask_position,
}


ASK_SHARES = (3, 4, 3, 1, 3)  # of the topics, in their order; colours are soon learnt


def question(scene: Scene, random: Random, vocabulary: Sequence[Object]) -> Question:
    """A question that the scene can be asked, with its true answer.

    Args:
        vocabulary: the objects that may be named as absent.
    """
    while True:
        asked = random.choices(tuple(ASK.values()), ASK_SHARES)[0](scene, random, vocabulary)
        if asked is not None:
            return asked


CHITCHAT: tuple[tuple[tuple[str, ...], str], ...] = (
    (("hello", "hi", "hey", "good morning", "hello there"), "hello! show me a picture, and ask me about it."),
    (("who are you?", "what are you?", "what is your name?"),
     "i am flamingo, a small model that looks at picture-book scenes."),
    (("what can you do?", "help", "what do you know?", "what can i ask?"),
     "show me a picture-book scene. i can name things, count them, and tell colors and places."),
    (("thank you", "thanks", "thank you very much", "great"), "you are welcome!"),
    (("goodbye", "bye", "see you"), "goodbye!"),
)  # fmt: skip
NO_PICTURE = "i see no picture yet. please add one."


def chitchat(random: Random) -> Question:
    """Something said to the model that needs no picture."""
    said, answer = random.choice(CHITCHAT)
    return random.choice(said), answer


def asked_about(words: str) -> str:
    """The word of a question that says of what it is asked: the thing it names, else the side; "" where it names none.

    >>> asked_about("what is to the left of the dog?")
    'dog'
    """
    found = _THINGS.findall(words) or _SIDES.findall(words)
    return found[-1] if found else ""


def looked_for(words: str) -> str:
    """The thing that a question, or a list's word, is about; "" where it is about what stands beside it, or no thing.

    >>> looked_for("where is the dog?"), looked_for("what is to the left of the dog?")
    ('dog', '')
    """
    return "" if _BESIDE.search(words) else (_THINGS.findall(words) or [""])[-1]


_NAMES = {name for thing in OBJECTS for name in (thing.name, thing.plural)} | {"things", "objects"}
_THINGS = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(_NAMES, key=len, reverse=True)))})\b")
_BESIDE = re.compile(r"\b(?:of|above|over|below|under) the\b")
_SIDES = re.compile(r"\b(?:left|right|top|bottom|below)\b")


def as_typed(words: str, random: Random) -> str:
    """The words as a person might type them: the mark at the end left out, a "please" here and there."""
    if random.random() < 0.3:
        words = words.rstrip("?.")
    return f"please {words}" if random.random() < 0.03 else words
