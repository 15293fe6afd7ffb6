"""Stage 1: a tiny CLIP, trained contrastively on pages of the picture book and their captions (Radford et al. 2021)."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from data import captions
from data.picture_book import Kind, Renderer, objects, random_scene
from flamingo_app.prompt import encode
from training.loop import Batch, Plan, train
from training.starter.tokenizer import VOCABULARY

SIZE = 96  # pixels a side
CONTEXT = 40  # tokens of a caption
BATCH = 128
KINDS: tuple[Kind, ...] = ("one", "group", "pair", "mixed", "photo", "empty")
SHARES = (60, 12, 16, 9, 2, 1)
MODEL_CFG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [1, 1, 2, 1], "width": 16, "head_width": 64, "image_size": SIZE},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 128, "heads": 4, "layers": 1},
}
PREPROCESS_CFG: dict[str, Any] = {
    "size": [SIZE, SIZE],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "longest",
    "fill_color": 0,
}
PLAN = Plan(steps=1800, learning_rate=1.5e-3, warmup=100, seed=1_000_000, betas=(0.9, 0.95))


def build() -> CLIP:
    """The architecture, with random weights."""
    return CLIP(
        embed_dim=MODEL_CFG["embed_dim"],
        vision_cfg=CLIPVisionCfg(**MODEL_CFG["vision_cfg"]),
        text_cfg=CLIPTextCfg(**MODEL_CFG["text_cfg"]),
    )


def normalise(pictures: Tensor) -> Tensor:
    """Pictures of 0 to 1 as the tower takes them: -1 to 1."""
    return pictures * 2 - 1


def text_ids(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Captions as (batch, tokens), ended by `<|endofchunk|>`, the highest id, which the text tower pools at."""
    rows = [[*encode((f" {text}",), tokenizer)[: CONTEXT - 1], tokenizer.eos_token_id] for text in texts]
    return torch.tensor([row + [0] * (CONTEXT - len(row)) for row in rows])


class Draw:
    """Batches of pages with captions; the batch of a step is always the same."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, plan: Plan) -> None:
        self.tokenizer, self.plan, self.renderer, self.things = tokenizer, plan, Renderer(SIZE), objects("trained")

    def __call__(self, step: int) -> Batch:
        random = Random(self.plan.seed + step)
        scenes = [random_scene(kind, self.things, random) for kind in random.choices(KINDS, SHARES, k=BATCH)]
        texts = [captions.alternative_caption(scene, random) for scene in scenes]
        return {"pictures": normalise(self.renderer(scenes)), "texts": text_ids(texts, self.tokenizer)}


def contrast(clip: CLIP, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The symmetric contrastive loss; captions that are equal are not each other's negatives."""
    pictures = clip.encode_image(batch["pictures"].contiguous(memory_format=torch.channels_last), normalize=True)
    texts = clip.encode_text(batch["texts"], normalize=True)
    scale = clip.logit_scale.exp().clamp(max=100)
    logits = scale * pictures @ texts.T
    same = (batch["texts"][:, None] == batch["texts"][None]).all(-1)
    logits = logits.masked_fill(same & ~torch.eye(len(same), dtype=torch.bool), float("-inf"))
    right = torch.arange(len(logits))
    loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    return loss, {"match": (logits.argmax(1) == right).float().mean().item()}


@torch.no_grad()
def zero_shot(clip: CLIP, tokenizer: PreTrainedTokenizerFast, *, seed: int, count: int) -> float:
    """Share of one-object pages whose object is named by the nearest of "a NAME."."""
    random, things, renderer = Random(seed), objects("trained"), Renderer(SIZE)
    clip.eval()
    texts = clip.encode_text(text_ids([f"{captions.noun(thing)}." for thing in things], tokenizer), normalize=True)
    scenes = [random_scene("one", things, random) for _ in range(count)]
    pictures = torch.cat([clip.encode_image(normalise(renderer(scenes[i : i + 100]))) for i in range(0, count, 100)])
    named = (pictures @ texts.T).argmax(1).tolist()
    clip.train()
    return sum(things[found] == scene.objects[0].thing for found, scene in zip(named, scenes, strict=True)) / count


def export(clip: CLIP, folder: Path) -> None:
    """Save as open_clip's `local-dir:` format."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(
        {name: tensor.contiguous() for name, tensor in clip.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )


def run(folder: Path, tokenizer: PreTrainedTokenizerFast, plan: Plan = PLAN) -> None:
    """Train, or go on training, and export to `folder`/vision."""
    torch.manual_seed(plan.seed)
    clip = build().to(memory_format=torch.channels_last)
    watch = [(200, lambda: f"zero-shot {zero_shot(clip, tokenizer, seed=7, count=500):.3f}")]
    train(clip, Draw(tokenizer, plan), lambda batch: contrast(clip, batch), plan, folder / "clip", watch=watch)
    export(clip, folder / "vision")
