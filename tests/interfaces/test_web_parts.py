"""The parts of the chat page that can be held without a browser."""

from __future__ import annotations

import base64
import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_app.conversation import Message, Picture
from flamingo_app.conversation.store import Saved, SavedTurn
from flamingo_app.conversation.store.pictures import LARGEST_SIDE, Pictures
from flamingo_app.errors import CheckpointError, ConversationError, FlamingoError, PictureError, PromptError
from flamingo_app.interfaces.cli.info import describe
from flamingo_app.interfaces.users import Users
from flamingo_app.interfaces.web import card, views
from flamingo_app.interfaces.web.acting import OpenPage
from flamingo_app.interfaces.web.drafts import Draft, read_draft, show_draft
from flamingo_app.interfaces.web.examples import examples
from flamingo_app.interfaces.web.talks import FACE, Talks
from flamingo_app.interfaces.web.visitors import COOKIE, owner_of
from tests import tiny

MOST = 4


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page uploads to."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


def reader(folder: Path) -> Any:
    pictures = Pictures(str(folder))
    return partial(read_draft, put=pictures.put, kept=pictures.picture, most=MOST)


def save(file: Path, *, size: tuple[int, int] = (8, 6)) -> str:
    Image.new("RGB", size, "teal").save(file)
    return str(file)


def test_an_upload_becomes_a_picture_that_is_kept(uploads: Path, tmp_path: Path):
    (picture,) = reader(tmp_path / "kept")([{"picture": save(uploads / "a.png")}])
    assert picture.open().getpixel((0, 0)) == (0, 128, 128)
    assert (tmp_path / "kept" / f"{picture.name}.png").is_file()


def test_large_pictures_are_kept_smaller(uploads: Path, tmp_path: Path):
    (picture,) = reader(tmp_path / "kept")([{"picture": save(uploads / "a.png", size=(2048, 512))}])
    assert picture.open().size == (LARGEST_SIDE, LARGEST_SIDE // 4)


@pytest.mark.parametrize(
    "path",
    [
        "{outside}",
        "{uploads}/../outside.png",
        "{uploads}/missing.png",
        "{uploads}",
        "/etc/passwd",
        "nul\0",
        "kept:../x",
    ],
)
def test_only_uploaded_files_are_opened_whatever_the_browser_says(path: str, uploads: Path, tmp_path: Path):
    outside = save(tmp_path / "outside.png")
    with pytest.raises(PictureError, match=r"expected an uploaded file|gone or damaged"):
        reader(tmp_path / "kept")([{"picture": path.format(outside=outside, uploads=uploads)}])


def test_a_bad_file_is_named_as_its_owner_knows_it(uploads: Path, tmp_path: Path):
    (uploads / "notes.png").write_text("not a picture")
    with pytest.raises(PictureError, match=r"got 'notes\.png'") as caught:
        reader(tmp_path / "kept")([{"picture": str(uploads / "notes.png")}])
    assert str(uploads) not in str(caught.value)


def test_a_draft_comes_back_as_it_was_shown(uploads: Path, tmp_path: Path):
    read = reader(tmp_path / "kept")
    draft: Draft = read([{"words": "a"}, {"picture": save(uploads / "a.png")}, {"words": "b"}])
    shown = show_draft(draft, lambda picture: picture.name)
    sent = [part | {"picture": part["picture"]["path"]} if "picture" in part else part for part in shown]
    assert [part if isinstance(part, str) else part.name for part in read(sent)] == [
        part if isinstance(part, str) else part.name for part in draft
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["words", "picture", "path"]), inner),
)


@given(payload=json_values)
def test_whatever_a_browser_sends_is_a_draft_or_refused_in_one_line(payload: Any):
    pictures = Pictures("memory://drafts")
    try:
        draft = read_draft(payload, put=pictures.put, kept=pictures.picture, most=MOST)
    except FlamingoError:
        return
    assert all(isinstance(part, str) for part in draft)  # no file was uploaded


def test_too_many_pictures_are_refused_before_any_is_kept(uploads: Path, tmp_path: Path):
    with pytest.raises(PromptError, match=f"at most {MOST}"):
        reader(tmp_path / "kept")([{"picture": save(uploads / "a.png")}] * (MOST + 1))
    assert list((tmp_path / "kept").iterdir()) == []


def test_every_page_gets_a_state_of_its_own():
    first = OpenPage()
    first.turn_to("a conversation")
    assert copy.deepcopy(first).conversation is None


def test_the_page_shows_what_was_said(tmp_path: Path):
    picture = Picture(name="0" * 64, open=lambda: Image.new("RGB", (2, 2)))
    turns = (SavedTurn(said=("<b>", picture), answer="x & y", status="whole"), SavedTurn(said=("next",)))
    first, second = views.bubbles("id", turns, live=True)
    assert first["said"] == [{"words": "<b>"}, {"picture": f"conversations/id/{'0' * 64}.png"}]
    assert (first["answer"], first["live"], second["answer"], second["live"]) == ("x & y", False, None, True)
    assert Saved(id="id", title="", turns=turns).messages[1] == Message(role="assistant", parts=("x & y",))


def test_owners_are_people_who_logged_in_or_browsers():
    people = Users(passwords={"ann": "secret"})
    assert owner_of({"authorization": "Basic YW5uOnNlY3JldA=="}, people) == "user:ann"
    cookies = [f"{COOKIE}={'a' * 43}", f"x=1; {COOKIE}={'a' * 43}", f"{COOKIE}={'b' * 43}"]
    one, again, other = ({"cookie": cookie} for cookie in cookies)
    assert owner_of(one, Users()) == owner_of(again, Users()) != owner_of(other, Users())
    for headers in ({}, {"cookie": f"{COOKIE}=short"}):
        with pytest.raises(ConversationError, match="cookies"):
            owner_of(headers, Users())


def test_examples_are_the_pictures_of_a_folder_or_nothing(tmp_path: Path):
    assert not examples(tmp_path / "missing").visible
    save(tmp_path / "two-dogs.png")
    assert 'alt="two dogs"' in str(examples(tmp_path).value)


def test_talks_are_read_with_their_pictures_or_refused_in_one_line(tmp_path: Path):
    assert Talks.read(tmp_path / "missing").buttons() == []
    save(tmp_path / "page.png")
    messages = [[{"words": "a "}, {"picture": "page.png"}], [{"words": "b"}]]
    (tmp_path / "talks.json").write_text(json.dumps([{"title": "two", "messages": messages}]))
    talks, pictures = Talks.read(tmp_path), Pictures("memory://talks")
    (button,) = talks.buttons()
    (face,) = button["faces"]
    assert button["title"] == "two"
    assert Picture.of(base64.b64decode(face.partition(",")[2])).open().size == (FACE, FACE)
    (first, picture), (second,) = talks.drafts(0, pictures.put)
    assert (first, second) == ("a ", "b")
    assert isinstance(picture, Picture)
    assert picture.open().size == (8, 6)
    assert talks.drafts(1, pictures.put) == talks.drafts(-1, pictures.put) == []
    for damaged in ("{", '[{"title": "no messages"}]', '[{"title": "a", "messages": [[{"sound": "a.wav"}]]}]'):
        (tmp_path / "talks.json").write_text(damaged)
        with pytest.raises(CheckpointError, match=r"expected a readable talks\.json"):
            Talks.read(tmp_path)


def test_the_gates_of_each_layer_are_shown():
    told = card.gates(describe("a book", tiny.model(gates=-0.5)))
    assert told.count("<tr>") == 2
    assert "attention -0.46 <meter min='0' max='1' value='0.46' aria-label='attention of layer 1'>" in told


def test_the_card_tells_backbones_world_and_measured_quality(tmp_path: Path):
    model = tiny.model()
    model.name_or_path = str(tmp_path)
    dog, owl = ({"emoji": "D", "name": "dog", "stage": "trained"}, {"emoji": "O", "name": "owl", "stage": "heldout"})
    (tmp_path / "world.json").write_text(json.dumps({"objects": [dog, owl]}))
    figures = {"captions": {"one_object": {"accuracy": 0.9712}, "note": {}}}
    (tmp_path / "measured.json").write_text(json.dumps({"suites": figures}))
    told = card.about(describe("a book", model))
    assert all(words in told for words in ("weights of its own", "these 1 things", "captions: one object", "97.1%"))
    assert "owl" not in told
    assert card.UNTRAINED not in told


def test_the_card_of_a_model_with_closed_gates_says_so():
    assert card.UNTRAINED in card.about(describe("new", tiny.model(gates=0.0)))
