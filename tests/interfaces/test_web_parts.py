"""The parts of the chat page that can be held without a browser."""

from __future__ import annotations

import copy
import json
from html import escape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_app.conversation import Reply
from flamingo_app.errors import FlamingoError, PictureError, PromptError
from flamingo_app.interfaces.cli.info import describe
from flamingo_app.interfaces.web import card
from flamingo_app.interfaces.web.chat import Chat
from flamingo_app.interfaces.web.composer import MAX_PICTURES, read_draft, show_draft
from flamingo_app.interfaces.web.examples import examples
from flamingo_app.interfaces.web.uploads import LARGEST_SIDE, Picture, open_upload
from tests import tiny


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page uploads to."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


def save(file: Path, *, size: tuple[int, int] = (8, 6)) -> str:
    Image.new("RGB", size, "teal").save(file)
    return str(file)


def said(words: str) -> Reply:
    return Reply(words=iter(words), num_left_out=0)


def test_an_upload_becomes_a_picture_and_a_file_that_shows_the_same(uploads: Path):
    picture = open_upload(save(uploads / "a.png"))
    assert picture.image.getpixel((0, 0)) == (0, 128, 128)
    with Image.open(picture.file) as shown:
        assert shown.tobytes() == picture.image.tobytes()
    assert open_upload(str(picture.file)).image.tobytes() == picture.image.tobytes()  # after undo, sent once more


def test_large_pictures_are_kept_smaller(uploads: Path):
    assert open_upload(save(uploads / "a.png", size=(2048, 512))).image.size == (LARGEST_SIDE, LARGEST_SIDE // 4)


@pytest.mark.parametrize(
    "path", ["{outside}", "{uploads}/../outside.png", "{uploads}/missing.png", "{uploads}", "/etc/passwd"]
)
def test_only_uploaded_files_are_opened_whatever_the_browser_says(path: str, uploads: Path, tmp_path: Path):
    outside = save(tmp_path / "outside.png")
    with pytest.raises(PictureError, match="expected an uploaded picture"):
        open_upload(path.format(outside=outside, uploads=uploads))


def test_a_bad_file_is_named_as_its_owner_knows_it(uploads: Path):
    (uploads / "notes.png").write_text("not a picture")
    with pytest.raises(PictureError, match=r"got 'notes\.png'") as caught:
        open_upload(str(uploads / "notes.png"))
    assert str(uploads) not in str(caught.value)


def test_a_draft_comes_back_as_it_was_shown(uploads: Path):
    draft = read_draft([{"words": "a"}, {"picture": save(uploads / "a.png")}, {"words": "b"}])
    shown = [part | {"picture": part["picture"]["path"]} if "picture" in part else part for part in show_draft(draft)]
    again = read_draft(shown)
    assert [part if isinstance(part, str) else part.image.tobytes() for part in again] == [
        part if isinstance(part, str) else part.image.tobytes() for part in draft
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["words", "picture", "path"]), inner),
)


@given(payload=json_values)
def test_whatever_a_browser_sends_is_a_draft_or_refused_in_one_line(payload: Any):
    try:
        draft = read_draft(payload)
    except FlamingoError:
        return
    assert all(isinstance(part, str) for part in draft)  # no file was uploaded


def test_too_many_pictures_are_refused(uploads: Path):
    with pytest.raises(PromptError, match=f"at most {MAX_PICTURES}"):
        read_draft([{"picture": save(uploads / "a.png")}] * (MAX_PICTURES + 1))


def test_an_answer_grows_and_is_kept_where_it_was_stopped():
    chat = Chat()
    hearing = chat.hear(("hello",), said(" good day"))
    grown = [chat.turns[-1][1] for _ in zip(hearing, range(6), strict=False)]
    assert grown == [None, "", "g", "go", "goo", "good"]
    hearing.close()
    assert chat.stop.is_set()
    assert chat.turns == [(("hello",), "good")]


def test_every_page_gets_a_chat_of_its_own():
    first = Chat()
    list(first.hear(("a",), said("b")))
    assert copy.deepcopy(first).turns == []


def test_the_model_reads_the_chat_and_the_page_shows_it(tmp_path: Path):
    chat, picture = Chat(), Picture(image=Image.new("RGB", (2, 2)), file=tmp_path / "a.png")
    list(chat.hear(("<b>", picture), said("x & y")))
    roles = [(message.role, message.parts) for message in chat.messages(("next",))]
    assert roles == [("user", ("<b>", picture.image)), ("assistant", ("x & y",)), ("user", ("next",))]
    assert chat.bubbles() == [
        {"role": "user", "content": [escape("<b>"), {"path": str(picture.file)}]},
        {"role": "assistant", "content": "x &amp; y"},
    ]


def test_examples_are_the_pictures_of_a_folder_or_nothing(tmp_path: Path):
    assert not examples(tmp_path / "missing").visible
    save(tmp_path / "two-dogs.png")
    assert 'alt="two dogs"' in str(examples(tmp_path).value)


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
