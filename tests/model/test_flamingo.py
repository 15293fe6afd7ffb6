"""The laws of the forward pass."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flamingo_app.errors import ConfigError, PromptError
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.trainable import is_trainable
from tests import tiny

MODES = pytest.mark.parametrize("attend", ["latest", "all_previous"])
TOWERS = pytest.mark.parametrize("vision", [tiny.VIT, tiny.RESNET], ids=["vit", "resnet"])


def logits(flamingo: FlamingoForConditionalGeneration, text: str, pictures: Tensor | None = None) -> Tensor:
    return flamingo(**tiny.rows([text]), pixel_values=pictures).logits[0]


@TOWERS
@MODES
def test_closed_gates_give_the_language_models_own_logits_exactly(vision, attend):
    flamingo = tiny.model(gates=0.0, vision=vision, attend=attend)
    plain = copy.deepcopy(flamingo.language_model)
    for layer in plain.transformer.h:
        layer._forward_pre_hooks.clear()
    inputs = tiny.rows(["a cat*and a dog*", "*?*"])
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    ours = flamingo(**inputs, pixel_values=tiny.pictures(2, 2)).logits
    assert torch.equal(ours, plain(**inputs, position_ids=positions).logits)


def test_open_gates_let_pictures_be_seen():
    flamingo = tiny.model()
    seen = [logits(flamingo, "what is*this", tiny.pictures(seed=seed)) for seed in (0, 1)]
    assert not torch.allclose(*(row[-1] for row in seen))


@MODES
@given(before=st.text("abc ", min_size=1, max_size=8), pictures=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_text_before_any_picture_is_not_changed_by_any_picture(attend, before, pictures, seed):
    flamingo = tiny.model(attend=attend)
    alone = logits(flamingo, before)
    followed = logits(flamingo, before + "*x" * pictures, tiny.pictures(1, pictures, seed=seed))
    torch.testing.assert_close(followed[: len(before)], alone)


def test_latest_sees_its_own_picture_alone():
    # One decoder layer: in a deeper model a token also hears of earlier pictures through the text that saw them.
    text = tiny.gpt2_config()
    text.n_layer = 1
    flamingo = tiny.model(text=text)
    with torch.no_grad():  # deaf to other tokens, so that only the picture can tell
        flamingo.language_model.transformer.h[0].attn.c_proj.weight.zero_()
    first, second, other = (tiny.pictures(seed=seed) for seed in range(3))
    both = logits(flamingo, "*a*b", torch.cat([first, second], dim=1))
    first_changed = logits(flamingo, "*a*b", torch.cat([other, second], dim=1))
    assert torch.equal(both[2:], first_changed[2:])
    assert not torch.allclose(both[:2], first_changed[:2])


def test_all_previous_sees_earlier_pictures():
    text = tiny.gpt2_config()
    text.n_layer = 1
    flamingo = tiny.model(text=text, attend="all_previous")
    with torch.no_grad():
        flamingo.language_model.transformer.h[0].attn.c_proj.weight.zero_()
    first, second, other = (tiny.pictures(seed=seed) for seed in range(3))
    both = logits(flamingo, "*a*b", torch.cat([first, second], dim=1))
    assert not torch.allclose(both[2:], logits(flamingo, "*a*b", torch.cat([other, second], dim=1))[2:])


@MODES
def test_a_batch_gives_each_row_what_it_gets_alone(attend):
    flamingo = tiny.model(attend=attend)
    texts, counts = ["*one*two", "no picture", "*a much longer text"], [2, 0, 1]
    pictures = tiny.pictures(3, 2)
    mask = torch.tensor([[place < count for place in range(2)] for count in counts])
    together = flamingo(**tiny.rows(texts), pixel_values=pictures * mask[:, :, None, None, None, None], image_mask=mask)
    for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
        alone = logits(flamingo, text, pictures[row : row + 1, :count] if count else None)
        torch.testing.assert_close(together.logits[row, -len(alone) :], alone, rtol=1e-4, atol=1e-4)


@TOWERS
def test_pixels_patches_and_latents_are_three_forms_of_a_picture(vision):
    flamingo, text, pixels = tiny.model(vision=vision), tiny.rows(["*a"]), tiny.pictures()
    expected = flamingo(**text, pixel_values=pixels).logits
    assert torch.equal(flamingo(**text, patches=flamingo.vision_encoder(pixels)).logits, expected)
    assert torch.equal(flamingo(**text, latents=flamingo.encode_images(pixels)).logits, expected)


@TOWERS
def test_a_training_step_moves_the_declared_parts_and_nothing_else(vision):
    flamingo = tiny.model(vision=vision, num_added_tokens=2, image_token_id=260, end_of_chunk_token_id=259)
    before = copy.deepcopy(flamingo.state_dict())
    optimizer = torch.optim.AdamW(flamingo.parameters(), lr=0.1, weight_decay=0.1)
    ids = torch.tensor([[260, 97, 98, 259]])
    flamingo.train()
    flamingo(ids, pixel_values=tiny.pictures(), labels=ids).loss.backward()
    assert {name for name, p in flamingo.named_parameters() if p.grad is not None} == {
        name for name, _ in flamingo.named_parameters() if is_trainable(name)
    }
    optimizer.step()
    moved = {name for name, value in flamingo.state_dict().items() if not torch.equal(value, before[name])}
    assert moved, "nothing was learnt"
    assert all(map(is_trainable, moved))


def test_gradient_checkpointing_changes_no_gradient():
    def gradients(checkpointing: bool) -> list[Tensor]:
        flamingo = tiny.model().train()
        if checkpointing:
            # The library renamed it; the old name warns.
            name = "activation_checkpointing_enable"
            getattr(flamingo, name if hasattr(flamingo, name) else "gradient_checkpointing_enable")()
        inputs = tiny.rows(["*abc"])
        flamingo(**inputs, pixel_values=tiny.pictures(), labels=inputs["input_ids"]).loss.backward()
        return [p.grad for p in flamingo.parameters() if p.grad is not None]

    torch.testing.assert_close(gradients(checkpointing=True), gradients(checkpointing=False))


def test_labels_of_minus_100_do_not_count():
    flamingo, inputs = tiny.model(), tiny.rows(["abcd"])
    labels = inputs["input_ids"].clone()
    labels[:, :3] = -100
    output = flamingo(**inputs, labels=labels)
    last = torch.nn.functional.cross_entropy(output.logits[:, 2], labels[:, 3])
    torch.testing.assert_close(output.loss, last)


@pytest.mark.parametrize(("text", "count"), [("*a", 0), ("a", 1), ("**", 1), ("*", 2)])
def test_pictures_must_match_their_places(text, count):
    flamingo = tiny.model()
    with pytest.raises(PromptError, match="as many pictures as <image> places"):
        logits(flamingo, text, tiny.pictures(1, count) if count else None)


def test_more_tokens_than_positions():
    flamingo = tiny.model(positions=8)
    logits(flamingo, "x" * 8)
    with pytest.raises(PromptError, match="at most 8 tokens; got 9"):
        logits(flamingo, "x" * 9)


def test_a_mask_of_the_new_text_alone_is_refused():
    flamingo = tiny.model()
    cache = flamingo(**tiny.rows(["abc"]), use_cache=True).past_key_values
    with pytest.raises(PromptError, match="mask over 5 tokens"):
        flamingo(**tiny.rows(["de"]), past_key_values=cache)


def test_a_mistyped_keyword_raises():
    with pytest.raises(TypeError, match="pixels"):
        tiny.model()(**tiny.rows(["a"]), pixels=tiny.pictures())


def test_frames_have_an_order_and_a_limit():
    flamingo = tiny.model(resampler=tiny.SMALL_PARTS["resampler"] | {"max_frames": 2})
    clip = tiny.pictures(1, 2).transpose(1, 2)
    assert not torch.allclose(logits(flamingo, "*a", clip), logits(flamingo, "*a", clip.flip(2)))
    with pytest.raises(PromptError, match="at most 2 frames"):
        logits(flamingo, "*a", tiny.pictures(1, 3).transpose(1, 2))


def test_a_tower_of_another_make_is_refused():
    with pytest.raises(ConfigError, match="vision_config"):
        tiny.config(vision={"timm_model_name": "resnet18", "image_size": 32})
