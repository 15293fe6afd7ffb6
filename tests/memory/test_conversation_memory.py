"""Laws of what a conversation leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_app import MemoryState
from flamingo_app.config import MemoryConfig
from flamingo_app.errors import CheckpointError, ConfigError
from flamingo_app.memory.slots import CompetingSlots, Slots
from flamingo_app.model.cache import MediaLayer
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from tests import tiny

SMALL: dict[str, Any] = {"num_turns": 5, "num_latents": 2, "dim": 8, "heads": 2, "dim_head": 4, "recalled_tokens": 6}
ENCODERS, UPDATES = ("perceiver_io", "memformer", "linformer"), ("competing", "memformer")
VARIANTS = [(encoder, update) for encoder in ENCODERS for update in UPDATES]
TEXT = "user: *and? "


def remembering(**fields: Any) -> FlamingoForConditionalGeneration:
    """A tiny random model with a memory, all gates open."""
    gated = {"heads": 2, "dim_head": 8}
    return tiny.model(memory=SMALL | {"gated": gated} | fields, initializer_range=0.3)


@pytest.fixture(params=VARIANTS, ids="-".join)
def model(request: pytest.FixtureRequest) -> FlamingoForConditionalGeneration:
    encoder, update = request.param
    return remembering(encoder=encoder, update=update)


def written(model: FlamingoForConditionalGeneration, count: int = 3, *, seed: int = 0) -> Slots:
    """The memory after some turns with a picture each."""
    slots = model.empty_slots()
    with torch.no_grad():
        for turn in range(count):
            rows = tiny.rows([TEXT + "?" * turn])
            slots = model.write_turn(slots, pixel_values=tiny.pictures(seed=seed + turn), **rows)
    return slots


@torch.no_grad()
def logits(model: FlamingoForConditionalGeneration, slots: Slots | None) -> torch.Tensor:
    memory = None if slots is None else model.view_memory(slots)
    return model(**tiny.rows([TEXT]), pixel_values=tiny.pictures(seed=9), memory=memory).logits


def test_what_was_written_changes_what_is_said(model: FlamingoForConditionalGeneration):
    slots = written(model)
    assert slots.written.item() == 3
    assert not torch.allclose(logits(model, slots), logits(model, None), atol=1e-3)
    assert not torch.allclose(logits(model, slots), logits(model, written(model, seed=5)), atol=1e-4)


def test_closed_gates_are_the_model_without_memory(model: FlamingoForConditionalGeneration):
    with torch.no_grad():
        for name, parameter in model.memory_blocks.named_parameters():
            if name.endswith("gate"):
                parameter.zero_()
    assert torch.equal(logits(model, written(model)), logits(model, None))


def test_a_new_model_begins_with_its_memory_shut(tmp_path: Path):
    made = FlamingoForConditionalGeneration(tiny.config(memory=SMALL))
    gates = [gate for name, gate in made.memory_blocks.named_parameters() if name.endswith("gate")]
    assert gates
    assert not any(gate.item() for gate in gates)


def test_rows_of_a_batch_are_written_and_read_as_alone(model: FlamingoForConditionalGeneration):
    texts = ["user: *a?", "user: *and this one?"]
    pictures = torch.cat([tiny.pictures(seed=1), tiny.pictures(seed=2)])
    rows = tiny.rows(texts)
    with torch.no_grad():
        both = Slots.empty(model.memory.config, batch=2)
        # on the right, as a turn is read from its beginning
        rows = {
            name: torch.stack(
                [
                    row.roll(-int((mask == 0).sum()))
                    for row, mask in zip(rows[name], rows["attention_mask"], strict=True)
                ]
            )
            for name in rows
        }
        both = model.write_turn(both, pixel_values=pictures, **rows)
        for row, text in enumerate(texts):
            alone = model.write_turn(model.empty_slots(), pixel_values=pictures[row, None], **tiny.rows([text]))
            torch.testing.assert_close(both.rows(row, row + 1).values, alone.values, atol=1e-5, rtol=1e-4)
            asked = {**tiny.rows([TEXT]), "pixel_values": tiny.pictures(seed=9)}
            twice = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in asked.items()}
            together = model(**twice, memory=model.view_memory(both)).logits[row]
            torch.testing.assert_close(together, logits(model, alone)[0], atol=1e-4, rtol=1e-4)


def test_places_that_hold_nothing_need_not_be_viewed(model: FlamingoForConditionalGeneration):
    slots = written(model)
    held = int((slots.turns > 0).sum())  # slots that are rewritten all hold something
    assert held in (3, slots.turns.shape[1])
    assert slots.used.turns.shape[1] == held
    torch.testing.assert_close(logits(model, slots.used), logits(model, slots))
    empty = model.empty_slots()
    assert empty.used.turns.tolist() == [[0]]
    torch.testing.assert_close(logits(model, empty.used), logits(model, empty))


def test_reading_copies_no_memory():
    keys, values = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    layer = MediaLayer.of(keys, values)
    assert (layer.keys.data_ptr(), layer.values.data_ptr()) == (keys.data_ptr(), values.data_ptr())
    assert layer.get_seq_length() == 5


def test_reading_through_a_cache_is_reading_at_once(model: FlamingoForConditionalGeneration):
    view = model.view_memory(written(model))
    rows = tiny.rows([TEXT])
    settings: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "memory": view}
    cached = model.generate(**rows, pixel_values=tiny.pictures(), **settings)
    plain = model.generate(**rows, pixel_values=tiny.pictures(), use_cache=False, **settings)
    assert torch.equal(cached, plain)
    beams = model.generate(**rows, pixel_values=tiny.pictures(), num_beams=3, **settings)
    assert beams.shape[1] > rows["input_ids"].shape[1]


def test_a_state_is_saved_and_loaded_to_the_bit(model: FlamingoForConditionalGeneration, tmp_path: Path):
    state = MemoryState(slots=written(model), fingerprint=model.memory_fingerprint())
    state.save(tmp_path / "memory.safetensors")
    again = MemoryState.load(tmp_path / "memory.safetensors", model)
    assert again.num_written == 3
    assert torch.equal(logits(model, again.slots), logits(model, state.slots))


def test_a_state_of_other_weights_is_refused(tmp_path: Path):
    one, other = remembering(), tiny.model(seed=1, memory=SMALL)
    file = tmp_path / "memory.safetensors"
    MemoryState.empty(one).save(file)
    with pytest.raises(CheckpointError, match="written by this model"):
        MemoryState.load(file, other)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"MemoryState\.save wrote"):
        MemoryState.load(file, one)
    with pytest.raises(CheckpointError, match=r"MemoryState\.save wrote"):
        MemoryState.load(tmp_path / "none", one)


def test_a_file_that_was_changed_is_refused(model: FlamingoForConditionalGeneration, tmp_path: Path):
    file = tmp_path / "memory.safetensors"
    state = MemoryState(slots=written(model), fingerprint=model.memory_fingerprint())
    state.save(file)
    whole = bytearray(file.read_bytes())
    whole[-3] ^= 1
    file.write_bytes(whole)
    with pytest.raises(CheckpointError, match="changed since"):
        MemoryState.load(file, model)
    with pytest.raises(CheckpointError, match="can be written"):
        state.save(tmp_path / "no such folder" / "memory.safetensors")


def test_a_loaded_state_does_not_hang_on_its_file(model: FlamingoForConditionalGeneration, tmp_path: Path):
    file = tmp_path / "memory.safetensors"
    MemoryState(slots=written(model), fingerprint=model.memory_fingerprint()).save(file)
    state = MemoryState.load(file, model)
    before = state.slots.values.clone()
    with file.open("r+b") as opened:
        opened.seek(-200, 2)
        opened.write(bytes(200))
    assert torch.equal(state.slots.values, before)


def test_a_state_of_half_precision_is_saved_and_loaded(tmp_path: Path):
    half = remembering().to(torch.bfloat16)
    state = MemoryState(slots=written(half), fingerprint=half.memory_fingerprint())
    state.save(tmp_path / "memory.safetensors")
    again = MemoryState.load(tmp_path / "memory.safetensors", half)
    assert again.name == state.name
    assert again.slots.values.dtype == torch.bfloat16


def test_a_memory_in_which_nothing_was_written_is_none(model: FlamingoForConditionalGeneration):
    assert torch.equal(logits(model, model.empty_slots()), logits(model, None))


def test_a_model_without_memory_says_so():
    with pytest.raises(ConfigError, match="a model with a memory"):
        MemoryState.empty(tiny.model())
    with pytest.raises(ConfigError, match=r"memory\.update='best'"):
        tiny.config(memory=SMALL | {"update": "best"})


def test_branches_do_not_touch_each_other(model: FlamingoForConditionalGeneration):
    trunk = written(model, 2)
    before = trunk.values.clone()
    with torch.no_grad():
        one = model.write_turn(trunk, pixel_values=tiny.pictures(seed=7), **tiny.rows([TEXT]))
        other = model.write_turn(trunk, pixel_values=tiny.pictures(seed=8), **tiny.rows([TEXT]))
    assert torch.equal(trunk.values, before)
    assert not torch.equal(one.values, other.values)


def test_the_memory_is_saved_with_the_model(tmp_path: Path):
    made = tiny.from_backbones(tmp_path, memory=SMALL)
    made.save_pretrained(tmp_path / "model")
    again = FlamingoForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert again.config.memory == MemoryConfig(**SMALL)
    assert again.memory_fingerprint() == made.memory_fingerprint()
    assert torch.equal(logits(again, written(again)), logits(made, written(made)))


def test_recall_has_words_for_every_turn_that_is_held():
    made = remembering()
    assert made.recall(written(made, 3)).shape == (3, 6, tiny.BYTES + 3)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(0, 14), st.integers(0, 2**31))
def test_competing_slots_keep_all_that_there_is_room_for(places: int, turns: int, seed: int):
    """While there is room, turns stand in their order, untouched; after that one place changes with each turn."""
    config = MemoryConfig(num_turns=places, num_latents=2, dim=4)
    slots, generator = Slots.empty(config), torch.Generator().manual_seed(seed)
    told = torch.randn(turns, 1, 2, 4, generator=generator)
    for number, turn in enumerate(told, 1):
        before, slots = slots, CompetingSlots()(slots, turn)
        changed = (before.values != slots.values).flatten(2).any(-1)[0]
        assert changed.sum() == 1
        assert torch.equal(slots.values[0, changed][0], turn[0])
        if number <= places:
            assert changed.nonzero().item() == number - 1
        else:
            alike = torch.cosine_similarity(before.values.flatten(2)[0], turn.flatten(1))
            assert changed.nonzero().item() == alike.argmax()
    held = [turn for turn in slots.turns[0].tolist() if turn]
    assert len(held) == min(turns, places)
    assert slots.written.item() == turns
    assert all(torch.equal(slots.values[0, slots.turns[0] == turn][0], told[turn - 1, 0]) for turn in held)
