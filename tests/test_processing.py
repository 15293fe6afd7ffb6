"""Pixels as open_clip makes them; the same ids whichever way content comes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from flamingo_app.errors import ConfigError, PictureError, PromptError
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor, add_special_tokens
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN, Mark, Turn, caption_prompt, chat_prompt
from tests import tiny
from tests.test_prompt import TYPED

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8)).resize((122, 74))
SMALL = Image.new("RGB", (20, 10), "teal")
SENTENCES = ["user: what is this?\nassistant: a dog and a cat.", "how many dogs? two dogs.", "the cat is red."]


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE whose tokens span letters, cut at words as GPT-2's are."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        SENTENCES * 3, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe)
    add_special_tokens(fast)
    return fast


@pytest.fixture(scope="module")
def processor() -> FlamingoProcessor:
    return FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), merging_tokenizer())


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, (24, 40)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_open_clips(resize_mode: str, size: Any, interpolation: str) -> None:
    settings = {"size": size, "resize_mode": resize_mode, "interpolation": interpolation, "fill_color": 7}
    theirs = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    for picture in (PHOTO, PHOTO.rotate(90, expand=True), SMALL):
        torch.testing.assert_close(FlamingoImageProcessor(**settings).pixels([picture])[0], theirs(picture))


def test_values_are_scaled_by_mean_and_deviation() -> None:
    ours = FlamingoImageProcessor(size=4, resize_mode="squash", mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 1.0])
    pixels = ours.pixels([Image.new("RGB", (9, 5), (255, 0, 51))])
    torch.testing.assert_close(pixels, torch.tensor([1.0, -1.0, 0.2]).expand(1, 4, 4, 3).movedim(-1, 1))


@pytest.mark.parametrize("wrong", [{"resize_mode": "stretch"}, {"interpolation": "nearest"}])
def test_unknown_picture_settings_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong.values()))):
        FlamingoImageProcessor(**wrong)


def test_image_processor_alone_works_as_hugging_faces_do() -> None:
    ours = FlamingoImageProcessor(**tiny.PREPROCESS)
    assert ours(SMALL, return_tensors="pt")["pixel_values"].shape == (1, 3, 32, 32)
    assert isinstance(ours([SMALL, PHOTO], return_tensors="np")["pixel_values"], np.ndarray)


def test_rows_are_padded_in_their_places(processor: FlamingoProcessor) -> None:
    inputs = processor.prompts(
        [caption_prompt(["a dog."]), caption_prompt(), ("words",)], [[PHOTO, SMALL], [SMALL], []]
    )
    assert inputs["image_mask"].tolist() == [[True, True], [True, False], [False, False]]
    assert inputs["pixel_values"].shape == (3, 2, 1, 3, 32, 32)
    photo, small = processor.image_processor.pixels([PHOTO, SMALL])
    torch.testing.assert_close(inputs["pixel_values"][0, :, 0], torch.stack([photo, small]))
    torch.testing.assert_close(inputs["pixel_values"][1, 0, 0], small)
    assert not inputs["pixel_values"][~inputs["image_mask"]].any()
    lengths = inputs["attention_mask"].sum(dim=1)
    for row, length in enumerate(lengths):
        assert inputs["attention_mask"][row, -length:].all()
        assert (inputs["input_ids"][row, :-length] == processor.tokenizer.pad_token_id).all()


def test_without_pictures_there_are_no_pixels(processor: FlamingoProcessor) -> None:
    assert set(processor.prompts([("words",)], [[]])) == {"input_ids", "attention_mask"}


@settings(deadline=None, max_examples=25)
@given(shots=st.lists(st.sampled_from(SENTENCES), max_size=3), lead_in=st.sampled_from(["", "the", "a cat."]))
def test_placeholders_and_prompts_agree(processor: FlamingoProcessor, shots: list[str], lead_in: str) -> None:
    pictures = [PHOTO] * (len(shots) + 1)
    ours = processor.prompts([caption_prompt(shots, lead_in=lead_in)], [pictures])
    text = "".join(f"<image> {shot}<|endofchunk|>" for shot in shots) + f"<image> {lead_in}".rstrip()
    assert_same(processor(text=text, images=pictures, return_tensors="pt"), ours)


@settings(deadline=None, max_examples=25)
@given(st.lists(TYPED.filter(lambda text: "<image>" not in text and END_OF_CHUNK_TOKEN not in text), max_size=3))
def test_chat_template_and_prompts_agree(processor: FlamingoProcessor, words: list[str]) -> None:
    content = [{"type": "image", "image": SMALL}, *({"type": "text", "text": each} for each in words)]
    ours = processor.prompts([chat_prompt([Turn(role="user", pieces=(Mark.IMAGE, *words))])], [[SMALL]])
    theirs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, add_generation_prompt=True, return_dict=True
    )
    assert_same(theirs, ours)


def test_chat_template_as_text_is_read_back_to_the_same_ids(processor: FlamingoProcessor) -> None:
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this?"}]},
        {"role": "assistant", "content": "a dog."},
        {"role": "user", "content": "how many dogs?"},
    ]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    assert text == "user:<image> what is this?\nassistant: a dog.<|endofchunk|>user: how many dogs?\nassistant:"
    chat[0]["content"] = [{"type": "image", "image": SMALL}, {"type": "text", "text": "what is this?"}]
    whole = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True)
    assert_same(processor(text=text, images=SMALL), whole)


def test_chat_template_leaves_the_last_message_open(processor: FlamingoProcessor) -> None:
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "I am"}]
    assert processor.apply_chat_template(chat, continue_final_message=True) == "user: hello\nassistant: I am"
    assert processor.apply_chat_template([chat, chat]) == ["user: hello\nassistant: I am<|endofchunk|>"] * 2


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "a typed <image>"},
        {"role": "user", "content": [{"type": "video", "video": "x"}]},
        {"role": "user", "content": [{"type": "text"}]},
    ],
)
def test_messages_of_another_shape_are_refused(processor: FlamingoProcessor, message: dict[str, Any]) -> None:
    with pytest.raises(PromptError):
        processor.apply_chat_template([message], tokenize=True)


@pytest.mark.parametrize("images", [PHOTO, [PHOTO], [[PHOTO]], (PHOTO,)])
def test_pictures_alone_in_a_list_or_by_row(processor: FlamingoProcessor, images: Any) -> None:
    assert_same(processor(images, "<image> a cat"), processor.prompts([(Mark.IMAGE, " a cat")], [[PHOTO]]))


def test_a_flat_list_goes_to_its_places_in_order(processor: FlamingoProcessor) -> None:
    texts = ["<image>a<image>", "b", "<image>"]
    flat = processor(images=[PHOTO, SMALL, SMALL], text=texts)
    assert_same(flat, processor(images=[[PHOTO, SMALL], [], [SMALL]], text=texts))


@pytest.mark.parametrize("images", [None, [], [PHOTO, PHOTO, PHOTO], [[PHOTO, PHOTO, PHOTO]], [[PHOTO]]])
def test_pictures_and_places_must_match(processor: FlamingoProcessor, images: Any) -> None:
    with pytest.raises(PromptError, match=r"as many pictures as places for them \(2\)"):
        processor(images=images, text="<image><image>")


def test_what_is_no_picture_is_refused(processor: FlamingoProcessor, tmp_path: Path) -> None:
    with pytest.raises(PictureError):
        processor(images=tmp_path / "missing.png", text="<image>")


def test_processor_survives_saving(processor: FlamingoProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    loaded = FlamingoProcessor.from_pretrained(tmp_path)
    assert loaded.image_processor.to_dict() == processor.image_processor.to_dict()
    prompts = [caption_prompt(["a dog <image>."]), caption_prompt()]
    pictures = [[PHOTO, SMALL], [SMALL]]
    assert_same(loaded.prompts(prompts, pictures), processor.prompts(prompts, pictures))


def test_special_tokens_are_added_once() -> None:
    tokenizer = tiny.tokenizer(special=False)
    size = len(tokenizer)
    assert add_special_tokens(tokenizer) == 2
    assert tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, END_OF_CHUNK_TOKEN]) == [size, size + 1]
    assert (tokenizer.pad_token, tokenizer.padding_side) == (END_OF_CHUNK_TOKEN, "left")
    assert add_special_tokens(tokenizer) == 0
    assert len(tokenizer) == size + 2


def test_a_token_for_padding_is_kept() -> None:
    tokenizer = merging_tokenizer()
    tokenizer.pad_token = "!"
    add_special_tokens(tokenizer)
    assert tokenizer.pad_token == "!"


def assert_same(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)
