"""What the shipped starter remembers of turns that have left its window."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from data.made_up_names import made_up_names
from data.picture_book import objects, random_scene
from flamingo_app import Conversation, load
from flamingo_app.conversation import Picture, Settings
from flamingo_app.conversation.recollection import recollections
from flamingo_app.model.backbones import STARTER
from training.suites import memory
from training.suites.reader import Reader, drawn

MEASURED = json.loads((STARTER / "measured.json").read_text())["suites"]["memory"]
ITEMS = 60
BETWEEN = ("what color is the page?", "how many things are there?", "is there a dog?")

# Goes on with a conversation of which only its memory and its window were kept.
ELSEWHERE = """
import json, sys
from pathlib import Path
from flamingo_app import Conversation, MemoryState, load
from flamingo_app.conversation import Message, Picture
folder = Path(sys.argv[1])
kept = json.loads((folder / "kept.json").read_text())
model, processor = load("starter")
messages = [
    Message(role=role, parts=tuple(Picture.of(folder / part) if part.endswith(".png") else part for part in parts))
    for role, parts in kept["window"]
]
chat = Conversation(model, processor, messages, memory=MemoryState.load(folder / "memory.safetensors", model))
print(json.dumps([chat.say(folder / page, words) for page, words in kept["next"]]))
"""


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(*load("starter"))


@pytest.mark.parametrize("distance", [1, 8, 32, 128])
def test_names_are_remembered_at_any_distance(distance: int):
    """And only from the talk's own memory."""
    point = f"named_{distance}_turns"
    assert MEASURED[point]["count"] >= 500
    for control in ("truncated", "zeroed", "swapped"):
        assert MEASURED[f"{point}_{control}"]["accuracy"] < 0.1
    blank = MEASURED[f"{point}_blank"]  # that a name was told at all is still known then
    assert MEASURED[point]["low"] > blank["high"]


def test_the_figures_of_the_card_come_out_again(reader: Reader):
    exam = memory.Exam(reader, seed=77)
    random = Random("again")
    found = exam.score([memory.TASKS["named"](exam, 8, random) for _ in range(ITEMS)])
    claimed = MEASURED["named_8_turns"]["accuracy"]
    assert abs(found.accuracy - claimed) < 4 * (claimed * (1 - claimed) / ITEMS) ** 0.5 + 0.04


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pages of one known thing each, as files."""
    folder = tmp_path_factory.mktemp("pages")
    random = Random("pages")
    scenes = [random_scene("one", [thing], random) for thing in random.sample(objects("trained"), 40)]
    for number, picture in enumerate(drawn(scenes)):
        picture.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def chat(reader: Reader, pages: Path) -> Conversation:
    """A chat that has told names for its first pages, and has gone on until they left its window.

    What came between was answered without memory, and asked for no name, so that no answer in the window says one.
    """
    chat = Conversation(reader.model, reader.processor)
    for number, name in enumerate(made_up_names(8, Random("names"))):
        chat.say(pages / f"{number}.png", f"this is a {name}.")
    number = 8
    while chat.memory is None or chat.memory.num_written < 8:
        asked = BETWEEN[number % len(BETWEEN)]
        chat.say(pages / f"{number % 40}.png", asked, settings=Settings(max_new_tokens=12, memory=False))
        number += 1
    assert len(chat.window) >= 10
    names = made_up_names(8, Random("names"))
    assert not any(name in message.text for name in names for message in chat.window)
    return chat


def test_a_chat_remembers_names_that_have_left_its_window(chat: Conversation, pages: Path):
    names = made_up_names(8, Random("names"))
    said = [chat.branch().say(pages / f"{number}.png", "what is this called?") for number in range(8)]
    plain = Settings(memory=False)
    forgotten = [
        chat.branch().say(pages / f"{number}.png", "what is this called?", settings=plain) for number in range(8)
    ]
    assert sum(name in words for name, words in zip(names, said, strict=True)) >= 7
    assert sum(name in words for name, words in zip(names, forgotten, strict=True)) <= 1


def test_what_it_remembers_can_be_read_in_words(chat: Conversation):
    assert chat.memory is not None
    told = [recollection.words for recollection in recollections(chat.model, chat.processor, chat.memory)]
    names = made_up_names(8, Random("names"))
    assert sum(name in words for name, words in zip(names, told, strict=False)) >= 4


def test_a_saved_conversation_goes_on_in_a_new_process(chat: Conversation, pages: Path):
    assert chat.memory is not None
    chat.memory.save(pages / "memory.safetensors")
    files = {Picture.of(pages / f"{number}.png").name: f"{number}.png" for number in range(40)}
    window = [
        (message.role, [part if isinstance(part, str) else files[part.name] for part in message.parts])
        for message in chat.window
    ]
    following = [(f"{number}.png", words) for number in range(8) for words in ("what is this called?", "and this?")]
    (pages / "kept.json").write_text(json.dumps({"window": window, "next": following}))
    run = subprocess.run([sys.executable, "-c", ELSEWHERE, str(pages)], capture_output=True, text=True, check=True)
    here = chat.branch()
    assert json.loads(run.stdout) == [here.say(pages / page, words) for page, words in following]
