"""What is kept comes back, to its owner alone; the same laws over SQLite and PostgreSQL."""

from __future__ import annotations

import io
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import text

from flamingo_app.conversation import Example
from flamingo_app.conversation.store import Store
from flamingo_app.conversation.store.database import open_database
from flamingo_app.conversation.store.portable import from_file, to_archive, to_json
from flamingo_app.conversation.store.tables import metadata
from flamingo_app.errors import ConversationError, FlamingoError, PictureError, StoreError, WentOnError


def image(seed: int, side: int = 8) -> Image.Image:
    return Image.frombytes("RGB", (side, side), Random(seed).randbytes(side * side * 3))


@pytest.fixture
def owner() -> str:
    return uuid4().hex


@pytest.fixture
def chat(store: Store, owner: str) -> str:
    """A conversation of two turns, the second without an answer."""
    identity = store.create(owner, examples=[Example(picture=store.pictures.put(image(9)), text="nine")])
    store.ask(owner, identity, 0, ("Is ", store.pictures.put(image(1)), " a Dög?"))
    store.answer(owner, identity, 0, "Two CATS.", "whole")
    store.ask(owner, identity, 1, (store.pictures.put(image(2)),))
    return identity


def test_what_is_kept_comes_back(store: Store, owner: str, chat: str, database: str, tmp_path: Path):
    again = Store(database, str(tmp_path / "pictures"))
    saved = again.load(owner, chat)
    again.close()
    first, second = saved.turns
    assert [part if isinstance(part, str) else part.open().tobytes() for part in first.said] == [
        "Is ",
        image(1).tobytes(),
        " a Dög?",
    ]
    assert (first.answer, first.status) == ("Two CATS.", "whole")
    assert (second.answer, second.status) == (None, "asked")
    assert [(example.picture.open().tobytes(), example.text) for example in saved.examples] == [
        (image(9).tobytes(), "nine")
    ]
    assert saved.title == "Is a Dög?"
    assert [message.role for message in saved.messages] == ["user", "assistant", "user"]


def test_the_tables_are_what_the_migrations_make(store: Store):
    with store.engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_nobody_sees_or_changes_what_is_anothers(store: Store, owner: str, chat: str):
    for act in (
        lambda: store.load("other", chat),
        lambda: store.ask("other", chat, 0, ("mine",)),
        lambda: store.answer("other", chat, 0, "mine", "whole"),
        lambda: store.cut("other", chat, 0),
        lambda: store.rename("other", chat, "mine"),
        lambda: store.teach("other", chat, []),
        lambda: store.delete("other", chat),
        lambda: store.branch("other", chat, 1),
        lambda: store.create("other", id=chat),
    ):
        with pytest.raises(ConversationError, match="expected a conversation of yours"):
            act()
    assert store.find("other") == []
    assert len(store.load(owner, chat).turns) == 2


@pytest.mark.parametrize(
    ("search", "found"), [("dÖG", True), ("cats", True), ("", True), ("bird", False), ("%", False), ("text", False)]
)
def test_search_looks_through_titles_words_and_answers(store: Store, owner: str, chat: str, search: str, found: bool):
    assert bool(store.find(owner, search=search)) == found


def test_asking_again_replaces_what_came_after(store: Store, owner: str, chat: str):
    store.ask(owner, chat, 0, ("anew",))
    (turn,) = store.load(owner, chat).turns
    assert (turn.said, turn.answer) == (("anew",), None)
    with pytest.raises(ConversationError, match="went on elsewhere"):
        store.ask(owner, chat, 5, ("too far",))
    store.cut(owner, chat, 0)
    with pytest.raises(ConversationError, match="went on elsewhere"):
        store.answer(owner, chat, 0, "of a turn that is gone", "whole")


def test_a_turn_that_was_asked_meanwhile_stays(store: Store, owner: str, chat: str):
    with pytest.raises(WentOnError):
        store.ask(owner, chat, 1, ("at once",), replaces=False)
    store.ask(owner, chat, 2, ("first",), replaces=False)
    store.ask(owner, chat, 2, ("edited elsewhere",))
    with pytest.raises(WentOnError):
        store.answer(owner, chat, 2, "to the first", "whole", said=("first",))
    store.answer(owner, chat, 2, "to the other", "whole", said=("edited elsewhere",))
    assert store.load(owner, chat).turns[2].answer == "to the other"


def test_the_pool_of_similar_examples_is_kept_and_branched(store: Store, owner: str, chat: str):
    assert store.load(owner, chat).pool == ""
    store.choose(owner, chat, pool="pets", num_similar=3)
    for identity in (chat, store.branch(owner, chat, 1)):
        assert (store.load(owner, identity).pool, store.load(owner, identity).num_similar) == ("pets", 3)


def test_renaming_branching_and_deleting(store: Store, owner: str, chat: str):
    store.rename(owner, chat, " Dogs ")
    branch = store.branch(owner, chat, 1)
    store.answer(owner, chat, 1, "later", "stopped")
    assert len(store.load(owner, branch).turns) == 1
    assert [each.title for each in store.find(owner)] == ["Dogs", "Dogs (branch)"]  # the last changed first
    store.delete(owner, chat)
    assert [each.id for each in store.find(owner)] == [branch]
    with store.engine.begin() as connection:
        left = connection.execute(text("select count(*) from turns where conversation = :id"), {"id": chat})
        assert left.scalar_one() == 0


def test_named_examples(store: Store, owner: str):
    shots = [Example(picture=store.pictures.put(image(seed)), text=str(seed)) for seed in (2, 1)]
    store.save_example_set(owner, "mine", shots[:1])
    store.save_example_set(owner, "mine", shots)
    assert [shot.text for shot in store.example_sets(owner)["mine"]] == ["2", "1"]
    assert store.example_sets("other") == {}
    store.save_example_set(owner, "mine", [])
    assert store.example_sets(owner) == {}


def test_pictures_go_when_nothing_shows_them(store: Store, owner: str, chat: str, tmp_path: Path):
    branch = store.branch(owner, chat, 1)
    young = store.pictures.put(image(5))
    for file in (tmp_path / "pictures").glob("*"):
        if file.stem != young.name:
            os.utime(file, (1, 1))
    before = len(list((tmp_path / "pictures").iterdir()))
    store.delete(owner, chat)
    assert len(list((tmp_path / "pictures").iterdir())) == before - 1  # that of its second turn
    assert store.load(owner, branch).turns[0].said[1].open()
    assert young.open()  # its turn may be on its way


def test_a_picture_that_is_damaged_or_gone_is_said_so(store: Store, tmp_path: Path):
    picture = store.pictures.put(image(1))
    (tmp_path / "pictures" / f"{picture.name}.png").write_bytes(b"other")
    with pytest.raises(PictureError, match="gone or damaged"):
        picture.open()
    for name in ("0" * 64, "../../etc/passwd"):
        with pytest.raises(PictureError, match="gone or damaged"):
            store.pictures.picture(name).open()


def test_pictures_live_under_any_url():
    from flamingo_app.conversation.store.pictures import Pictures

    pictures = Pictures("memory://flamingo")
    assert pictures.put(image(3)).open().tobytes() == image(3).tobytes()
    assert max(pictures.put(image(3, side=1500)).open().size) == 1024


def test_many_writers_lose_nothing(store: Store, owner: str):
    chats = [store.create(owner) for _ in range(4)]

    def write(identity: str) -> None:
        for number in range(5):
            store.ask(owner, identity, number, (f"{identity} {number}",))
            store.answer(owner, identity, number, f"{number}", "whole")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, chats))
    for identity in chats:
        assert [turn.said for turn in store.load(owner, identity).turns] == [(f"{identity} {n}",) for n in range(5)]


def test_a_conversation_goes_through_a_file(store: Store, owner: str, chat: str):
    saved = store.load(owner, chat)
    for write in (to_json, to_archive):
        title, turns, examples = from_file(write(saved, store.pictures), store.pictures)
        again = store.load(owner, store.add(owner, title=title, kept=turns, examples=examples))
        assert [turn.answer for turn in again.turns] == [turn.answer for turn in saved.turns]
        assert to_json(again, store.pictures) == to_json(saved, store.pictures)
    with zipfile.ZipFile(io.BytesIO(to_archive(saved, store.pictures))) as archive:
        told = archive.read("conversation.md").decode()
        assert "**You:** Is ![picture](pictures/" in told
        assert "**Flamingo:** Two CATS." in told
        assert {f"pictures/{picture.name}.png" for message in saved.messages for picture in message.pictures} <= set(
            archive.namelist()
        )


def zipped(data: bytes, name: str, cut: int) -> bytes:
    """An archive whose one file was damaged at a place."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    whole = buffer.getvalue()
    return whole[: cut % len(whole)] + b"?" + whole[cut % len(whole) + 1 :]


jsons = st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
archives = st.builds(zipped, st.binary() | jsons, st.sampled_from(["conversation.json", "other"]), st.integers(0))


@given(data=st.binary() | jsons | archives)
def test_whatever_is_imported_is_a_conversation_or_refused_in_one_line(data: bytes):
    from flamingo_app.conversation.store.pictures import Pictures

    with pytest.raises(ConversationError, match="expected a conversation that was exported"):
        from_file(data, Pictures("memory://imports"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version"),
        ({"pictures": {}}, "not in the file"),
        ({"pictures": {"x": "!"}}, "not base64"),
        ({"pictures": {"x": "d29yZHM="}}, "expected a picture"),
        ({"turns": [{"said": [{"text": "<image>"}]}]}, "plain words"),
    ],
)
def test_a_changed_file_is_refused(store: Store, owner: str, chat: str, change: dict[str, object], said: str):
    data = json.loads(to_json(store.load(owner, chat), store.pictures)) | change
    with pytest.raises(FlamingoError, match=said):
        from_file(json.dumps(data).encode(), store.pictures)


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////proc/none/x.db", "postgresql://u:secret@127.0.0.1:1/x", "x://y"]
)
def test_a_database_that_cannot_be_had_is_one_line_without_its_password(url: str):
    with pytest.raises(StoreError, match="expected a database") as caught:
        open_database(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_forgotten_stays_so_as_far_as_there_are_turns(store: Store, owner: str, chat: str):
    saved = store.load(owner, chat)
    assert (saved.remembers, saved.forgotten) == (True, 0)
    store.remember(owner, chat, remembers=False, forgotten=2)
    assert (store.load(owner, chat).remembers, store.load(owner, chat).forgotten) == (False, 2)
    branch = store.load(owner, store.branch(owner, chat, 1))
    assert (branch.remembers, branch.forgotten) == (False, 1)
    store.cut(owner, chat, 1)
    store.ask(owner, chat, 1, ("new",))
    assert store.load(owner, chat).forgotten == 1, "a new turn in a forgotten one's place is forgotten"
    with pytest.raises(ConversationError):
        store.remember("somebody else", chat, remembers=True, forgotten=0)
