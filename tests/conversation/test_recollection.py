"""A chat that is longer than what the model reads: what leaves the window is written, and read ever after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flamingo_app.conversation import Conversation, Memories, Message, Prefixes, Settings, recollection, reply
from flamingo_app.conversation.messages import Picture
from flamingo_app.conversation.recollection import by_turns
from flamingo_app.conversation.session import _encoded, read_window
from flamingo_app.errors import CheckpointError, ConversationError, PictureError, PromptError
from flamingo_app.images import open_picture
from flamingo_app.memory.slots import Slots
from flamingo_app.memory.state import MemoryState
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from tests import tiny
from tests.conversation.test_session import picture
from tests.memory.test_conversation_memory import SMALL

POSITIONS = 160
SHORT = Settings(max_new_tokens=6)


@pytest.fixture(scope="module")
def model() -> FlamingoForConditionalGeneration:
    gated = {"heads": 2, "dim_head": 8}
    return tiny.model(positions=POSITIONS, memory=SMALL | {"num_turns": 8, "gated": gated}, initializer_range=0.3)


def talk(chat: Conversation, turns: Sequence[int]) -> list[str]:
    return [chat.say(picture(turn), "?" * (1 + turn % 5), settings=SHORT) for turn in turns]


def anew(chat: Conversation, settings: Settings = SHORT) -> str:
    """What a model says to the chat's last question that has kept nothing at all."""
    return "".join(reply(chat.model, chat.processor, chat.messages[:-1], settings=settings)).strip()


def test_every_turn_is_answered_as_if_all_had_been_read_and_written_now(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat = Conversation(model, processor)
    for turn in range(20):
        (said,) = talk(chat, [turn])
        assert said == anew(chat)
    assert chat.memory is not None
    assert chat.memory.num_written == chat.budget.num_left_out // 2 > 8
    assert chat.budget.used <= chat.budget.room
    leaving = chat.budget.next
    assert leaving == tuple(chat.messages[chat.budget.num_left_out :][: len(leaving)])
    assert leaving


def test_what_has_left_matters_and_can_be_switched_off(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat, plain = Conversation(model, processor), Conversation(model, processor)
    talk(chat, range(12))
    left = read_window(model, processor, chat.messages[:-1]).num_left_out
    assert left
    plain.messages = chat.messages[left:]
    off = Settings(max_new_tokens=6, memory=False)
    assert anew(chat, off) == anew(plain)
    assert anew(chat) != anew(chat, off), "the memory is not read"


def test_states_that_are_no_longer_kept_are_made_again_to_the_bit(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat = Conversation(model, processor)
    talk(chat, range(14))
    forgetful = Conversation(model, processor, chat.messages, memories=Memories(max_number=0))
    assert chat.memory is not None
    assert forgetful.memory is not None
    assert chat.memory.slots.values.equal(forgetful.memory.slots.values)


def test_a_turn_is_written_once(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, monkeypatch: pytest.MonkeyPatch
):
    written: list[object] = []
    write = recollection.write
    monkeypatch.setattr(recollection, "write", lambda *given: (written.append(given[-1]), write(*given))[1])
    chat = Conversation(model, processor)
    talk(chat, range(20))
    assert chat.memory is not None
    assert len(written) == chat.memory.num_written


def test_a_memory_is_viewed_once_until_turns_leave(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, monkeypatch: pytest.MonkeyPatch
):
    viewed: list[int] = []
    view = FlamingoForConditionalGeneration.view_memory

    def counted(self: FlamingoForConditionalGeneration, slots: Slots, *rest: object) -> object:
        viewed.append(int(slots.written))
        return view(self, slots, *rest)

    monkeypatch.setattr(FlamingoForConditionalGeneration, "view_memory", counted)
    chat = Conversation(model, processor)
    talk(chat, range(16))
    assert len(viewed) > 1
    assert sorted(set(viewed)) == viewed


def test_a_conversation_goes_on_from_its_memory_and_its_window_alone(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    chat = Conversation(model, processor)
    talk(chat, range(14))
    assert chat.memory is not None
    chat.memory.save(tmp_path / "memory.safetensors")
    memory = MemoryState.load(tmp_path / "memory.safetensors", model)
    other = Conversation(model, processor, chat.window, memory=memory)
    assert len(other.messages) < len(chat.messages)
    assert talk(other, range(20, 32)) == talk(chat, range(20, 32))
    assert other.memory is not None
    assert chat.memory is not None
    assert other.memory.num_written == chat.memory.num_written > memory.num_written
    assert torch.equal(other.memory.slots.values, chat.memory.slots.values)
    assert talk(other.branch(), [40]) == talk(chat, [40])


def test_a_conversation_of_other_weights_is_not_gone_on_from(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    stranger = replace(MemoryState.empty(model), fingerprint="0" * 64)
    with pytest.raises(CheckpointError, match="written by this model"):
        Conversation(model, processor, memory=stranger)


def test_branches_go_on_from_their_own_past(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor):
    trunk = Conversation(model, processor)
    talk(trunk, range(12))
    branch = trunk.branch(len(trunk.messages) - 2)
    ways = [talk(trunk, range(20, 26)), talk(branch, range(30, 36))]
    alone = Conversation(model, processor, trunk.branch(24).messages)
    assert talk(alone, range(20, 26)) == ways[0]
    assert ways[0] != ways[1]


def test_a_cache_read_with_another_memory_is_not_gone_on_from(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    """Two chats whose windows are the same, and whose pasts are not."""
    shared, memories = Prefixes(), Memories()
    pasts = []
    for seed in (0, 100):
        chat = Conversation(model, processor, prefixes=shared, memories=memories)
        talk(chat, [seed, *range(1, 12)])
        pasts.append(chat)
    for chat in pasts:
        assert chat.budget.num_left_out
        (said,) = talk(chat, [60])
        assert said == anew(chat)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=12))
def test_nothing_is_refused_but_a_message_longer_than_the_window(processor: FlamingoProcessor, lengths: list[int]):
    gated = {"heads": 2, "dim_head": 8}
    model = tiny.model(positions=POSITIONS, memory=SMALL | {"gated": gated})
    chat, room = Conversation(model, processor), POSITIONS - POSITIONS // 4
    for length in lengths:
        words = "a" * (length + 1)
        whole = len("user: ") + length + 1 + len("\n") + len("assistant:")
        if whole <= room:
            chat.say(words, settings=SHORT)
        else:
            with pytest.raises(PromptError, match="a message of at most"):
                chat.say(words, settings=SHORT)


def test_messages_are_cut_into_turns():
    ask, answer = Message(role="user", parts=("?",)), Message(role="assistant", parts=("!",))
    assert list(by_turns([ask, answer, ask, ask, answer])) == [[ask, answer], [ask], [ask, answer]]
    assert list(by_turns([answer, ask])) == [[answer], [ask]]
    assert list(by_turns([])) == []


def test_a_new_conversation_has_a_budget_and_no_memory(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat = Conversation(model, processor)
    assert chat.budget.next == chat.window == ()
    assert chat.memory is None
    chat.messages.append(Message(role="assistant", parts=("?" * 3 * POSITIONS,)))
    assert chat.budget.used > chat.budget.room
    assert isinstance(chat.say("hi", settings=SHORT), str)


def test_a_cleared_memory_is_no_memory(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor):
    cleared = Conversation(model, processor, memory=MemoryState.empty(model))
    assert talk(cleared, range(3)) == talk(Conversation(model, processor), range(3))


def test_a_picture_that_was_lost_does_not_end_a_conversation(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, caplog: pytest.LogCaptureFixture
):
    chat = Conversation(model, processor)
    talk(chat, range(12))

    def lost() -> Image.Image:
        raise PictureError(expected="a picture", got="none", remedy="show it again")

    assert chat.budget.num_left_out > 2
    shown = chat.messages[0]
    gone = tuple(Picture(name=part.name, open=lost) if isinstance(part, Picture) else part for part in shown.parts)
    again = Conversation(model, processor, [Message(role="user", parts=gone), *chat.messages[1:]])
    assert isinstance(talk(again, [12])[0], str)
    assert "grey page" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"forgotten": -1},
        {"top_p": 1.5},
        {"temperature": float("nan")},
        {"temperature": -1.0},
        {"num_likeliest": -1},
        {"seed": 2**70},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]):
    with pytest.raises(PromptError, match="expected " + next(iter(wrong))):
        Settings(**cast(Any, wrong))


def test_long_messages_are_not_kept_for_others(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor):
    before = _encoded.cache_info().currsize
    for number in range(3):
        with pytest.raises(PromptError, match="at most"):
            Conversation(model, processor).say(f"{number}" * 20 * POSITIONS)
    assert _encoded.cache_info().currsize == before


def test_a_conversation_in_a_folder_goes_on_as_it_would_have(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    chat = Conversation(model, processor)
    talk(chat, range(4))
    chat.save(tmp_path / "talk")
    talk(chat, range(4, 14))
    chat.save(tmp_path / "talk")  # over the one before
    assert chat.memory is not None
    assert len(list((tmp_path / "talk").glob("memory-*"))) == 1
    later = Conversation.load(tmp_path / "talk", model, processor)
    assert [(said.role, said.text) for said in later.messages] == [(said.role, said.text) for said in chat.messages]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recollection, "write", None)  # nothing is written anew
        assert later.memory is not None
        assert later.memory.name == chat.memory.name
    assert talk(later, range(14, 20)) == talk(chat, range(14, 20))


def test_one_that_goes_on_from_a_memory_is_kept_with_it(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    first = Conversation(model, processor)
    talk(first, range(12))
    chat = Conversation(model, processor, first.window, memory=first.memory)
    chat.save(tmp_path / "talk")
    later = Conversation.load(tmp_path / "talk", model, processor)
    assert talk(later, range(3)) == talk(chat, range(3))


def test_what_a_conversation_says_of_its_files_does_not_lead_out_of_its_folder(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    chat = Conversation(model, processor)
    talk(chat, range(14))
    chat.save(tmp_path / "talk")
    whole = json.loads((tmp_path / "talk" / "conversation.json").read_text())
    assert whole["memories"]
    whole["memories"] = {what: f"../other/{name}" for what, name in whole["memories"].items()}
    (tmp_path / "talk" / "conversation.json").write_text(json.dumps(whole))
    (tmp_path / "other").mkdir()
    later = Conversation.load(tmp_path / "talk", model, processor)
    assert talk(later, range(14, 16)) == talk(chat, range(14, 16))


def test_a_picture_that_comes_back_is_remembered_as_if_it_had_never_been_lost(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat, missing = Conversation(model, processor), [True]
    talk(chat, range(12))

    def opened(part: Picture) -> Image.Image:
        if missing[0]:
            raise PictureError(expected="a picture", got="none", remedy="look for it")
        return part.open()

    messages = [
        Message(role=said.role, parts=tuple(
            Picture(name=part.name, open=partial(opened, part)) if isinstance(part, Picture) else part
            for part in said.parts
        ))
        for said in chat.messages
    ]  # fmt: skip
    later = Conversation(model, processor, messages)
    assert (later.memory, chat.memory) != (None, None)
    assert later.memory.name != chat.memory.name
    greyed = later.memory.name
    writes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recollection, "write", lambda *given: writes.append(1))
        assert later.memory.name == greyed
    assert not writes, "what is lost is written once"
    missing[0] = False
    assert later.memory.name == chat.memory.name
    assert talk(later, range(12, 15)) == talk(chat, range(12, 15))


def test_a_conversation_goes_on_and_is_kept_without_a_picture_of_its_window(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    chat = Conversation(model, processor)
    talk(chat, range(3))
    chat.save(tmp_path / "talk")
    first = chat.messages[0].pictures[0]
    (tmp_path / "talk" / "pictures" / f"{first.name}.png").unlink()
    later = Conversation.load(tmp_path / "talk", model, processor)
    grey = Picture.of(Image.new("RGB", (64, 64), (128, 128, 128)))
    parts = tuple(grey if part == first else part for part in chat.messages[0].parts)
    greyed = Conversation(model, processor, [replace(chat.messages[0], parts=parts), *chat.messages[1:]])
    assert talk(later, range(3, 6)) == talk(greyed, range(3, 6))
    later.save(tmp_path / "talk")  # it is still lost there
    again = Conversation.load(tmp_path / "talk", model, processor)
    assert talk(again, range(6, 16)) == talk(greyed, range(6, 16))  # until it has left, and after
    shown_now = Picture(name="0", open=lambda: open_picture(tmp_path / "none.png"))
    with pytest.raises(PictureError, match="missing"):
        again.say(shown_now, "what is this?")
    assert len(again.messages) == len(greyed.messages)


def test_a_folder_is_found_from_wherever_one_goes(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    chat = Conversation(model, processor)
    talk(chat, range(4))
    monkeypatch.chdir(tmp_path)
    chat.save("talk")
    later = Conversation.load("talk", model, processor)
    monkeypatch.chdir("/")
    assert talk(later, range(4, 14)) == talk(chat, range(4, 14))
    assert later.memory is not None
    assert later.memory.name == chat.memory.name


def test_saving_mends_what_was_damaged_and_leaves_what_is_not_its_own(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    chat = Conversation(model, processor)
    talk(chat, range(12))
    chat.save(tmp_path)
    assert chat.memory is not None
    chat.memory.save(tmp_path / "memory-mine.safetensors")
    for file in (tmp_path / "pictures").iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    (tmp_path / "pictures" / "mine.png").write_bytes(b"")
    talk(chat, range(12, 14))
    chat.save(tmp_path)
    later = Conversation.load(tmp_path, model, processor)
    assert talk(later.branch(), range(14, 20)) == talk(chat.branch(), range(14, 20))
    Conversation(model, processor).save(tmp_path)
    kept = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert kept == {"conversation.json", "memory-mine.safetensors", "mine.png"}


def test_a_memory_is_of_the_messages_that_were_written(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    chat = Conversation(model, processor)
    talk(chat, range(14))
    chat.save(tmp_path)
    whole = json.loads((tmp_path / "conversation.json").read_text())
    whole["messages"][chat.budget.num_left_out - 2]["parts"].append({"words": "!"})
    (tmp_path / "conversation.json").write_text(json.dumps(whole))
    later = Conversation.load(tmp_path, model, processor)
    assert later.memory is not None
    assert later.memory.name == Conversation(model, processor, later.messages).memory.name
    assert later.memory.name != chat.memory.name


def test_another_model_may_read_the_messages_of_a_folder_again(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    chat = Conversation(model, processor)
    talk(chat, range(12))
    chat.save(tmp_path)
    other = tiny.model(positions=POSITIONS, memory=model.config.memory, initializer_range=0.3)
    with torch.no_grad():
        other.get_output_embeddings().weight.add_(0.1)
    with pytest.raises(CheckpointError, match="anew=True"):
        Conversation.load(tmp_path, other, processor)
    later = Conversation.load(tmp_path, other, processor, anew=True)
    assert later.memory.name == Conversation(other, processor, chat.messages).memory.name
    without = tiny.model(positions=POSITIONS)
    assert Conversation.load(tmp_path, without, processor, anew=True).memory is None


def test_a_chat_that_ends_with_too_long_a_message_can_be_looked_at_and_kept(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    chat = Conversation(model, processor, [Message(role="user", parts=("x" * 3 * POSITIONS,))])
    assert chat.budget.used > chat.budget.room
    assert chat.window == tuple(chat.messages)
    chat.save(tmp_path)
    later = Conversation.load(tmp_path, model, processor)
    assert later.say("hi", settings=SHORT) == chat.say("hi", settings=SHORT)
    assert chat.budget.num_left_out == 1


def test_what_is_kept_of_a_picture_is_not_told_where_it_is_named() -> None:
    assert len(repr(Message(role="user", parts=(picture(1),)))) < 200


def test_what_is_no_conversation_is_refused(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, tmp_path: Path
):
    with pytest.raises(ConversationError, match=r"Conversation\.save wrote"):
        Conversation.load(tmp_path, model, processor)
    Conversation(model, processor).save(tmp_path)
    whole = (tmp_path / "conversation.json").read_text()
    said = json.loads(whole)
    for damaged in (
        whole[:-4],
        whole.replace("folder 1", "folder 9"),
        "[]",
        "[" * 100_000,
        *(
            json.dumps(said | {"messages": messages})
            for messages in ({}, [{"role": "robot", "parts": []}], [{"role": "user", "parts": [{"words": "\ud800"}]}])
        ),
        json.dumps(said | {"examples": [{"picture": {"picture": "0"}, "text": 5}]}),
    ):
        (tmp_path / "conversation.json").write_text(damaged)
        with pytest.raises(ConversationError, match=r"Conversation\.save wrote"):
            Conversation.load(tmp_path, model, processor)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConversationError, match="can be written"):
        Conversation(model, processor).save(tmp_path / "file")
