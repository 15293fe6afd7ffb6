"""Tiny models run by other libraries' own code: checkpoints, inputs, and what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from flamingo_app.importers import Options

ROOT = Path(__file__).parent.parent / "golden"
CASES = (
    "open_flamingo/gpt2_every1",
    "open_flamingo/gpt2_every2",
    "open_flamingo/gpt2_library_sizes",
    "open_flamingo/neox_every1",
    "open_flamingo/neox_every2",
    "open_flamingo/opt_every1",
    "open_flamingo/opt_every2",
    "open_flamingo_v1/llama_every2",
    "otter/llama_every2",
    "flamingo_mini/gpt2_every1",
    "flamingo_mini/opt_every2",
    "idefics/resampler",
    "idefics/qk_norms_resampler",
    "flamingo_pytorch/palm_every1",
    "flamingo_pytorch/palm_every2_all_previous",
)


@dataclass(frozen=True)
class Case:
    """One of them, by its folder's name under `tests/golden`."""

    name: str

    @property
    def folder(self) -> Path:
        return ROOT / self.name

    @cached_property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.folder / "case.json").read_text())

    @property
    def checkpoint(self) -> Path:
        usual = ("model.safetensors", "model.pt")
        return self.folder / next(
            file
            for file in self.facts.get("checkpoint_files", usual)
            if file != "config.json" and (self.folder / file).exists()
        )

    @property
    def is_mini(self) -> bool:
        return self.facts["family"] == "flamingo_mini"

    @property
    def is_palm(self) -> bool:
        return self.facts["family"] == "flamingo_pytorch"

    @property
    def counts_padding(self) -> bool:
        """Whether its authors' code counts positions from the padding on the left."""
        return self.facts.get("lm", {}).get("type") in ("gpt2", "neox", "llama")

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return load_file(self.folder / "inputs.safetensors")

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        return load_file(self.folder / "expected.safetensors")

    def options(self, folder: Path, **more: Any) -> Options:
        """What a user would say; a tokenizer is made in `folder` where the case has none."""
        here = {kind: str(self.folder / kind) for kind in ("lm", "vision") if (self.folder / kind).is_dir()}
        if self.is_mini:
            here["tokenizer"] = words(folder / "tokenizer", self.facts["lm"]["vocab_in_lm_folder"])
        elif self.facts["family"] == "idefics":
            here["tokenizer"] = words(folder / "tokenizer", self.expected["logits_left"].shape[-1], self.idefics_words)
        elif self.is_palm:
            here["tokenizer"] = words(folder / "tokenizer", self.facts["arguments"]["num_tokens"])
            attend = "latest" if self.facts["arguments"]["only_attend_immediate_media"] else "all_previous"
            return Options(**here | {"attend": attend, "image_size": self.inputs["pixel_values"].shape[-1]} | more)
        patches = "normed" if self.facts["vision"]["patch_tokens_had_ln_post"] else "raw"
        return Options(**here | {"patches": patches} | more)

    @property
    def idefics_words(self) -> dict[int, str]:
        tokens = self.facts["tokens"]
        return {tokens["image"]: "<image>", tokens["fake_token_around_image"]: "<fake_token_around_image>"}

    def model_inputs(self, kind: str, image_token_id: int) -> dict[str, Tensor]:
        """Tensors of `forward` for inputs padded on the "_left", the "_right", or to "_generate" from."""
        given, suffix = self.inputs, kind.replace("_left", "")
        if f"input_ids{suffix}" not in given:
            suffix = ""
        ids, mask, pixels = given[f"input_ids{suffix}"], given.get(f"attention_mask{suffix}"), given["pixel_values"]
        if self.is_mini:  # which marks pictures beside the ids
            ids = ids.masked_fill(given[f"media_locations{suffix}"].bool(), image_token_id)
        exists = torch.arange(pixels.shape[1]) < given["num_images"][:, None]
        if kind == "_generate" and (self.is_mini or self.is_palm):  # these prompts have not all the pictures
            count = (ids == image_token_id).sum(dim=1, keepdim=True)
            exists = exists[:, : count.max()] & (torch.arange(count.max()) < count)
            pixels = pixels[:, : count.max()]
        if mask is None:
            mask = torch.ones_like(ids)
        pixels = pixels if pixels.ndim == 6 else pixels.unsqueeze(2)
        return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels, "image_mask": exists}


def words(folder: Path, count: int, named: Mapping[int, str] = {27: "<"}) -> str:
    """A tokenizer of so many words; `<` stands at its place in GPT-2's unless others are named."""
    vocabulary = {named.get(i, f"w{i}"): i for i in range(count)}
    made = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="w1"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="w2", unk_token="w1").save_pretrained(folder)
    return str(folder)
