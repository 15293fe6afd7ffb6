"""Prompts and their pictures to the model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal, cast

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from flamingo_app.errors import PromptError
from flamingo_app.images import Source
from flamingo_app.processing.chat_messages import read_chat, spell_chat
from flamingo_app.processing.image_processor import FlamingoImageProcessor
from flamingo_app.processing.special_tokens import read_marks
from flamingo_app.prompt import Prompt, encode, num_images


class FlamingoProcessor(ProcessorMixin):
    """Prompts and their pictures to the model's inputs.

    `prompts` takes words that somebody typed: nothing in them becomes a special token. Calling the processor reads
    `<image>` and `<|endofchunk|>` in its text, as Hugging Face's processors do: that text must be trusted.

    Every way gives the same ids for the same content, and returns
        input_ids, attention_mask: (batch tokens), padded on the left;
        pixel_values: (batch images 1 3 height width), zeros at the end of a row that has fewer pictures;
        image_mask: (batch images), which pictures exist. Without any picture the last two are absent.
    """

    image_processor: FlamingoImageProcessor
    tokenizer: Any

    def __init__(self, image_processor: FlamingoImageProcessor, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(image_processor, tokenizer)  # pyright: ignore[reportUnknownMemberType]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> FlamingoProcessor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Load what `save_pretrained` wrote."""
        picture_settings, vocabulary = cast(Any, FlamingoImageProcessor), cast(Any, AutoTokenizer)
        return cls(
            picture_settings.from_pretrained(pretrained_model_name_or_path, **kwargs),
            vocabulary.from_pretrained(pretrained_model_name_or_path, **kwargs),
        )

    def prompts(self, prompts: Sequence[Prompt], images: Sequence[Sequence[Source]]) -> BatchFeature:
        """Inputs of prompts, each with as many pictures as it has places for them.

        Raises:
            PromptError: where there are more or fewer.
            PictureError: for a picture that cannot be opened.
        """
        for row, (prompt, pictures) in enumerate(zip(prompts, images, strict=True)):
            if num_images(prompt) != len(pictures):
                raise PromptError(
                    expected=f"as many pictures as places for them ({num_images(prompt)})",
                    got=f"{len(pictures)} with prompt {row}",
                    remedy="give one picture for each place",
                )
        inputs = self.tokens(prompts)
        if any(images):
            inputs["pixel_values"], inputs["image_mask"] = self.image_processor.rows(images)
        return inputs

    def tokens(self, prompts: Sequence[Prompt]) -> BatchFeature:
        """`input_ids` and `attention_mask` alone, for pictures that are encoded already."""
        rows = [torch.tensor(encode(prompt, self.tokenizer), dtype=torch.long) for prompt in prompts]
        masks = [torch.ones_like(row) for row in rows]
        pad = self.tokenizer.pad_token_id
        return BatchFeature(
            {
                "input_ids": pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left"),
                "attention_mask": pad_sequence(masks, batch_first=True, padding_side="left"),
            }
        )

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # text and pictures only, nothing else
        self,
        images: Any = None,
        text: str | Sequence[str] = "",
        *,
        return_tensors: str = "pt",
        padding: Literal[True, "longest"] = True,
    ) -> BatchFeature:
        """Hugging Face's way: trusted text with `<image>` where a picture stands.

        Args:
            images: a picture, a list of them in the order of their places, or a list of lists, one for each text.
            text: one text or several.
            return_tensors: "pt" for torch, "np" for numpy.
            padding: rows are always padded to the longest.
        """
        prompts = [read_marks(each) for each in ([text] if isinstance(text, str) else text)]
        inputs = self.prompts(prompts, _by_row(images, [num_images(prompt) for prompt in prompts]))
        return BatchFeature(dict(inputs), tensor_type=return_tensors)

    def apply_chat_template(  # pyright: ignore[reportIncompatibleMethodOverride]  # no templates but ours
        self,
        conversation: Sequence[Any],
        chat_template: None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = False,
        return_dict: Literal[True] = True,
        return_tensors: str = "pt",
        processor_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Spell Hugging Face's chats; see `chat_messages` for their shape.

        Args:
            conversation: a list of messages, or a list of such lists.
            chat_template: there is one spelling, that of `flamingo_app.prompt`.
            add_generation_prompt: end where the assistant is to begin.
            continue_final_message: leave the last message open, to be gone on with.
            tokenize: return inputs; otherwise text, for calling this processor with the pictures.
            return_dict: inputs always are a dictionary.
            return_tensors: see `__call__`.
            processor_kwargs: see `__call__`.

        Raises:
            PromptError: for a message of another shape, or a special token typed into the words.
        """
        alone = isinstance(conversation[0], dict)
        chats = [read_chat(chat) for chat in ([conversation] if alone else conversation)]
        prompts = [
            spell_chat(turns, reply=add_generation_prompt, open_end=continue_final_message) for turns, _ in chats
        ]
        if tokenize:
            return BatchFeature(dict(self.prompts(prompts, [pictures for _, pictures in chats])), return_tensors)
        texts = ["".join(piece if isinstance(piece, str) else piece.value for piece in prompt) for prompt in prompts]
        return texts[0] if alone else texts


def _by_row(images: Any, places: Sequence[int]) -> list[list[Source]]:
    """Pictures by row, given alone, in one list or by row already; `places` says how many each row needs."""
    given: list[Any] = [] if images is None else [*images] if isinstance(images, list | tuple) else [images]
    if any(isinstance(row, list | tuple) for row in given):
        return [list(row) for row in given]
    rest = iter(given)
    rows: list[list[Source]] = [list(islice(rest, count)) for count in places]
    rows[-1] += rest  # too many: `prompts` says so
    return rows
