"""Examples as the model reads them: prompts with a loss weight for each piece, and the scenes that stand at the marks.

    captioned     <image> a dog on a blue background.<|endofchunk|> ...
    dialogue      user:<image> how many dogs?\\nassistant: two.<|endofchunk|>user: what colour ...
    binding       <image> this is a dax.<|endofchunk|><image> this is a wug.<|endofchunk|><image> this is a dax. ...

In a binding episode things have made-up names that hold for that episode alone, so weights cannot know them: what is
learnt is to read them from the shots (Tsimpoukelli et al. 2021, section 4; Chan et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from random import Random
from typing import cast

from data import captions
from data.made_up_names import made_up_names
from data.picture_book import Kind, Object, Scene, random_scene
from flamingo_app.prompt import Mark, Piece, Turn, chat_prompt, said, spell_turn

Weighted = tuple[Piece, float]
Said = tuple[tuple[Piece, ...], str]
"""A turn of a chat: what the user says and shows, what is to be answered."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One training example.

    Args:
        pieces: the prompt, each piece with the weight of its tokens in the loss; 0 for what the model need not say.
        scenes: the pictures, in the order of their marks.
    """

    pieces: tuple[Weighted, ...]
    scenes: tuple[Scene, ...]

    @property
    def begins_with_picture(self) -> bool:
        """Whether something is shown before anything is answered."""
        before = takewhile(lambda weighted: weighted[1] == 0, self.pieces)
        return any(piece is Mark.IMAGE for piece, _ in before)


def captioned(scenes: Sequence[Scene]) -> Episode:
    """Pictures, each followed by its caption."""
    pieces: list[Weighted] = []
    for scene in scenes:
        pieces += [(Mark.IMAGE, 0.0), (f" {captions.caption(scene)}", 1.0), (Mark.END_OF_CHUNK, 1.0)]
    return Episode(pieces=tuple(pieces), scenes=tuple(scenes))


def dialogue(turns: Sequence[Said], scenes: Sequence[Scene]) -> Episode:
    """A chat of such turns, with its pictures."""
    pieces: list[Weighted] = []
    for user, answer in turns:
        pieces += [(piece, 0.0) for piece in chat_prompt([Turn(role="user", pieces=user)])]
        pieces += [(piece, 1.0) for piece in spell_turn(Turn(role="assistant", pieces=(answer,)))[1:]]
    return Episode(pieces=tuple(pieces), scenes=tuple(scenes))


def random_captioned(kinds: Sequence[Kind], shares: Sequence[int], things: Sequence[Object], random: Random) -> Episode:
    """One to three captioned pictures."""
    count = random.choices((1, 2, 3), (4, 1, 1))[0]
    return captioned([random_scene(kind, things, random) for kind in random.choices(kinds, shares, k=count)])


def random_dialogue(
    kinds: Sequence[Kind],
    shares: Sequence[int],
    things: Sequence[Object],
    random: Random,
    *,
    length: int | None = None,
    showing: float = 0.4,
) -> Episode:
    """A chat of questions; pictures come before or after the words, each is asked about in its turn.

    Args:
        length: how many questions; None for one to four.
        showing: how often a question after the first comes with a picture of its own.
    """
    turns: list[Said] = []
    scenes: list[Scene] = []
    for number in range(length or random.choices((1, 2, 3, 4), (4, 3, 2, 1))[0]):
        if random.random() < 0.03:
            asked, answer = captions.chitchat(random)
            turns.append(((captions.as_typed(asked, random),), answer))
            continue
        if number == 0 and random.random() < 0.02:
            asked, _ = captions.question(random_scene("one", things, random), random, things)
            turns.append(((captions.as_typed(asked, random),), captions.NO_PICTURE))
            continue
        shows = not scenes or random.random() < showing
        if shows:
            scenes.append(random_scene(random.choices(kinds, shares)[0], things, random))
        asked, answer = captions.question(scenes[-1], random, things)
        words = captions.as_typed(asked, random)
        pictured: tuple[Piece, ...] = (Mark.IMAGE, words) if random.random() < 0.6 else (words, Mark.IMAGE)
        turns.append((pictured if shows else (words,), answer))
    return dialogue(turns, scenes)


# How the shots of one episode speak: words before the name, and after it.
FORMATS = (
    ("", ""),
    ("", "."),
    ("a", "."),
    ("this is a", "."),
    ("this is", "."),
    ("a picture of a", "."),
    ("it is called", "."),
)


def binding(
    classes: Sequence[int],
    names: Sequence[str],
    scenes: Sequence[Scene],
    *,
    form: tuple[str, str],
    every_token: bool = False,
) -> Episode:
    """Shots that bind names to pictures; a name is to be said from its second time on, when the shots tell it.

    Args:
        classes: which of the names each picture has.
        form: words before and after the name, the same for the whole episode.
        every_token: weigh the format's words as well, not the names alone.
    """
    before, after = form
    pieces: list[Weighted] = []
    known: set[int] = set()
    for number, of in enumerate(classes):
        spoken = 1.0 if of in known else 0.0
        format_weight = 0.2 if every_token and number else 0.0
        pieces += [(Mark.IMAGE, 0.0), *((words, format_weight) for words in said(before)), (f" {names[of]}", spoken)]
        pieces += [(after, format_weight)] if after else []
        # Where nothing follows the name, its end is part of it: "mupam", not "mupamam".
        pieces += [(Mark.END_OF_CHUNK, max(format_weight, 0.2 * spoken) if after else spoken)]
        known.add(of)
    return Episode(pieces=tuple(pieces), scenes=tuple(scenes))


def naming_turns(classes: Sequence[int], names: Sequence[str], random: Random) -> list[Said]:
    """The same as turns of a chat, a picture in each: the user tells names, then asks for them."""
    turns: list[Said] = []
    known: set[int] = set()
    for of in classes:
        if of in known:
            words = captions.as_typed(
                random.choice((captions.WHAT[0], "what is this called?", "which one is this?")), random
            )
            turns.append(((Mark.IMAGE, words), f"a {names[of]}."))
        else:
            turns.append(
                (
                    (
                        Mark.IMAGE,
                        random.choice(("this is a {}.", "look, a {}.", "this is called {}.")).format(names[of]),
                    ),
                    "i see.",
                )
            )
        known.add(of)
    return turns


def random_naming_among(
    things: Sequence[Object], others: Sequence[Object], random: Random, *, most_named: int = 4
) -> Episode:
    """A chat in which some of `things` are given names and asked for, while pages of others are asked about as ever.

    What a picture shows, not how the user asks, tells whether a name of the chat is wanted.
    """
    ways = random.randint(1, most_named)
    chosen = random.sample(list(things), ways)
    classes = [*random.sample(range(ways), ways), *random.choices(range(ways), k=random.randint(1, 4))]
    named = [random_scene("one", [chosen[of]], random) for of in classes]
    told = naming_turns(classes, made_up_names(ways, random), random)
    strangers = [thing for thing in others if thing not in chosen]
    between: list[tuple[Said, Scene]] = []
    for _ in range(random.randint(1, 6)):
        scene = random_scene(random.choice(("one", "one", "group", "pair")), strangers, random)
        ask = random.choice((captions.ask_what, captions.question))
        words, answer = ask(scene, random, strangers)
        if answer == f"{captions.things(scene)}.":
            words = captions.WHAT[0]  # as names are asked for
        between.append((((Mark.IMAGE, captions.as_typed(words, random)), answer), scene))
    kinds = random.sample([True] * len(named) + [False] * len(between), len(named) + len(between))
    turns = iter(zip(told, named, strict=True)), iter(between)
    merged = [next(turns[0 if naming else 1]) for naming in kinds]
    return dialogue([turn for turn, _ in merged], [scene for _, scene in merged])


def comparing(pairs: Sequence[tuple[Scene, Scene]], labels: tuple[str, str], *, known: bool = True) -> Episode:
    """Two pictures at a time, labelled by whether they show the same: `<image> and<image> same.<|endofchunk|> ...`.

    Args:
        labels: what is said of like and of unlike pictures.
        known: whether the labels say by themselves what they mean; else each is asked for from its second time on.
    """
    pieces: list[Weighted] = []
    shown: set[str] = set(labels) if known else set()
    for first, second in pairs:
        label = labels[0] if first.counts.keys() == second.counts.keys() else labels[1]
        weight = 1.0 if label in shown else 0.0
        pieces += [
            (Mark.IMAGE, 0.0),
            (" and", 0.0),
            (Mark.IMAGE, 0.0),
            (f" {label}.", weight),
            (Mark.END_OF_CHUNK, 0.2),
        ]
        shown.add(label)
    return Episode(pieces=tuple(pieces), scenes=tuple(scene for pair in pairs for scene in pair))


def random_comparing(things: Sequence[Object], random: Random, *, made_up: float = 0.7) -> Episode:
    """Some pairs of single objects, half of them alike, in renderings of their own.

    Args:
        made_up: how often the labels are made up for the episode, so that weights alone cannot tell which means what.
    """
    known = random.random() >= made_up
    labels = ("same", "different") if known else tuple(made_up_names(2, random))
    pairs: list[tuple[Scene, Scene]] = []
    for _ in range(random.randint(1, 6) if known else random.randint(4, 9)):
        first, other = random.sample(list(things), 2)
        second = first if random.random() < 0.5 else other
        pairs.append((random_scene("one", [first], random), random_scene("one", [second], random)))
    return comparing(pairs, cast(tuple[str, str], labels), known=known)


ORDINALS = ("first", "second", "third", "fourth", "fifth")
WHICH = ("which picture had the {}?", "which picture showed the {}?", "in which picture was the {}?")


def which_picture(scenes: Sequence[Scene], random: Random, *, told: bool) -> Episode:
    """Several pictures of one thing each, then one or two questions: which of them had it?

    Args:
        told: the user names each picture, so that it can be answered from the words alone.
    """
    names = [next(iter(scene.counts)).name for scene in scenes]
    shown: list[Piece] = []
    for name in names:
        shown += [Mark.IMAGE, *([f"a {name}."] if told else [])]
    turns: list[Said] = []
    for asked in random.sample(range(len(scenes)), random.randint(1, 2)):
        words = captions.as_typed(random.choice(WHICH).format(names[asked]), random)
        turns.append(((words,) if turns else (*shown, words), f"the {ORDINALS[asked]} picture."))
    return dialogue(turns, scenes)


def random_located(things: Sequence[Object], random: Random) -> Episode:
    """Two to five pictures of different things, then a list of these, each with which picture had it."""
    chosen = random.sample(list(things), random.randint(2, 5))
    pieces: list[Weighted] = [(Mark.IMAGE, 0.0)] * len(chosen)
    for number in random.sample(range(len(chosen)), len(chosen)):
        pieces += [(f" {chosen[number].name}", 0.0), (f" {ORDINALS[number]}", 1.0), (",", 0.0)]
    scenes = [random_scene("one", [thing], random) for thing in chosen]
    return Episode(pieces=(*pieces, (Mark.END_OF_CHUNK, 0.0)), scenes=tuple(scenes))


def random_which_picture(things: Sequence[Object], random: Random, *, told: bool) -> Episode:
    """Two to five pictures of different things."""
    chosen = random.sample(list(things), random.randint(2, 5))
    return which_picture([random_scene("one", [thing], random) for thing in chosen], random, told=told)


def random_placed(things: Sequence[Object], random: Random) -> Episode:
    """One or two things on a page, asked for where they are."""
    kind: Kind = random.choice(("one", "pair", "pair"))
    while not (asked := captions.ask_placed(scene := random_scene(kind, things, random), random, things)):
        pass
    return dialogue([((Mark.IMAGE, captions.as_typed(asked[0], random)), asked[1])], [scene])


def random_listed(things: Sequence[Object], random: Random) -> Episode:
    """A page of two kinds or more, then a list: each word right before what the page says of it."""
    while True:
        scene = random_scene(random.choice(("pair", "mixed")), things, random)
        if listed := random.choice(captions.LISTS)(scene, random, things):
            break
    pieces: list[Weighted] = [(Mark.IMAGE, 0.0)]
    for word, answer in random.sample(listed, len(listed)):
        pieces += [(f" {word}", 0.0), (f" {answer}", 1.0), (",", 0.0)]
    return Episode(pieces=(*pieces, (Mark.END_OF_CHUNK, 0.0)), scenes=(scene,))


Speaker = Callable[[Scene], str]


def styled(scenes: Sequence[Scene], say: Speaker) -> Episode:
    """Pictures that are all spoken of in one way, which can be known from the second on; the first is not asked."""
    pieces: list[Weighted] = []
    for number, scene in enumerate(scenes):
        weight = 1.0 if number else 0.0
        pieces += [(Mark.IMAGE, 0.0), (f" {say(scene)}", weight), (Mark.END_OF_CHUNK, weight)]
    return Episode(pieces=tuple(pieces), scenes=tuple(scenes))


def random_styled(things: Sequence[Object], random: Random) -> Episode:
    """Two to nine pictures captioned in one style."""
    style = random.choice(tuple(captions.STYLES.values()))
    kinds = random.choices(("one", "group", "pair"), (3, 1, 1), k=random.randint(2, 9))
    return styled([random_scene(cast(Kind, kind), things, random) for kind in kinds], style)


def random_ruled(
    things: Sequence[Object], random: Random, *, rules: Sequence[Speaker] = tuple(captions.RULES.values())
) -> Episode:
    """Two to nine pictures, each with what one unspoken rule asks for; the rule is to be found from the first."""
    rule = random.choice(rules)
    kinds = random.choices(("group", "pair", "mixed"), (2, 2, 1), k=random.randint(2, 9))
    return styled([random_scene(cast(Kind, kind), things, random) for kind in kinds], rule)


def random_operated(things: Sequence[Object], random: Random) -> Episode:
    """Two to nine pages of two kinds, each with the number that one unspoken operation makes of the two numbers."""
    operator = random.choice(tuple(captions.OPERATORS.values()))
    return styled([two_kinds(things, random) for _ in range(random.randint(2, 9))], operator)


def two_kinds(things: Sequence[Object], random: Random) -> Scene:
    """A page with one to four of each of two kinds, five things at most."""
    while len((scene := random_scene("mixed", things, random)).counts) != 2:
        pass
    return scene


WAYS = ((2, 6), (3, 6), (4, 4), (5, 4), (6, 2), (8, 2), (10, 2))  # of a binding episode, with their shares


def random_binding(
    things: Sequence[Object],
    random: Random,
    *,
    most_pictures: int = 12,
    made_up: float = 0.8,
    chat: float = 0.25,
    forms: Sequence[tuple[str, str]] = FORMATS,
    alike: float = 0.0,
) -> Episode:
    """An episode of 2 to 10 ways; every picture's class is drawn by itself, so that exclusion tells nothing.

    Args:
        made_up: how often the names are made up; else they are other things' names, so that weights alone are wrong.
        chat: how often it is told as a chat.
        forms: how its shots may speak; one of them is drawn.
        alike: how often made-up names share their syllables.
    """
    possible = [(ways, share) for ways, share in WAYS if 2 * ways <= most_pictures]
    ways = random.choices(*zip(*possible, strict=True))[0]
    chosen = random.sample(list(things), ways)
    names = (
        made_up_names(ways, random, alike=random.random() < alike)
        if random.random() < made_up
        else [thing.name for thing in random.sample(list(things), ways)]
    )
    total = random.randint(min(2 * ways + 2, most_pictures), most_pictures)
    opening = random.sample(range(ways), ways) if random.random() < 0.5 else []
    classes = (opening + random.choices(range(ways), k=total))[:total]
    scenes = [random_scene("one", [chosen[of]], random) for of in classes]
    if random.random() < chat:
        half = total if total <= 16 else total // 2  # a turn of chat is twice as long as a shot
        return dialogue(naming_turns(classes[:half], names, random), scenes[:half])
    return binding(classes, names, scenes, form=random.choice(forms), every_token=True)
