"""Stage 1: a tiny CLIP, trained on pages of the picture book and their captions, then frozen.

Two contrasts at once: whole pages against captions (Radford et al. 2021), and places on the page against the names of
things (Li et al. 2022, GLIP, section 3.1: region-word alignment). The second teaches the map that the Flamingo parts
read where things are and what they are; a page's one embedding need not tell that, and so does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from data import captions
from data.picture_book import Kind, Object, Renderer, Scene, objects, random_scene
from flamingo_app.prompt import encode
from training.loop import Batch, Plan, train
from training.starter.tokenizer import VOCABULARY

SIZE = 96  # pixels a side
CONTEXT = 20  # tokens of a caption
BATCH = 128
KINDS: tuple[Kind, ...] = ("one", "group", "pair", "mixed", "photo", "empty")
SHARES = (42, 18, 24, 12, 3, 1)
STAGE, CELLS, DIM_MAP = 3, 6, 256  # the stage of the tower whose map is read: so many places a side, so wide
NOTHING_WEIGHT = 0.2  # of an empty place in the loss: most are empty
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
PLAN = Plan(steps=1800, learning_rate=2e-3, matrix_rate=6e-3, warmup=50, seed=1_000_000, betas=(0.9, 0.95))


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
    """Batches of pages with captions and with what stands where; the batch of a step is always the same."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, plan: Plan) -> None:
        self.tokenizer, self.plan, self.renderer, self.things = tokenizer, plan, Renderer(SIZE), objects("trained")

    def __call__(self, step: int) -> Batch:
        random = Random(self.plan.seed + step)
        scenes = [random_scene(kind, self.things, random) for kind in random.choices(KINDS, SHARES, k=BATCH)]
        texts = [captions.alternative_caption(scene, random) for scene in scenes]
        return {
            "pictures": normalise(self.renderer(scenes)).contiguous(memory_format=torch.channels_last),
            "texts": text_ids(texts, self.tokenizer),
            "places": places(scenes, self.things),
        }


def places(scenes: Sequence[Scene], things: Sequence[Object]) -> Tensor:
    """What has its centre where, (batch, CELLS, CELLS): 0 nothing, i + 1 the i-th thing, -1 do not ask.

    Not asked are the inner parts of large things, which may or may not be taken for a centre.
    """
    numbers = {thing: number for number, thing in enumerate(things, 1)}
    found = torch.zeros(len(scenes), CELLS, CELLS, dtype=torch.long)
    middles = (torch.arange(CELLS) + 0.5) / CELLS
    for page, scene in zip(found, scenes, strict=True):
        for placed in scene.objects:
            near = [(middles - centre).abs() < placed.size / 4 for centre in (placed.y, placed.x)]
            page[near[0][:, None] & near[1]] = -1
        for placed in scene.objects:
            page[int(placed.y * CELLS), int(placed.x * CELLS)] = numbers[placed.thing]
    return found


class Grounded(nn.Module):
    """CLIP with a projection of its map's places into the space of its texts; only the CLIP is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = build()
        self.to_region = nn.Linear(DIM_MAP, MODEL_CFG["embed_dim"])
        self.region_scale = nn.Parameter(torch.tensor(2.5))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The pages' embeddings (batch, embed_dim) and their places' (batch, CELLS, CELLS, embed_dim), of length 1."""
        seen: dict[str, Any] = self.clip.visual.forward_intermediates(pictures, indices=[STAGE, STAGE + 1])
        regions = self.to_region(seen["image_intermediates"][0].permute(0, 2, 3, 1))
        return F.normalize(seen["image_features"], dim=-1), F.normalize(regions, dim=-1)


def names(things: Sequence[Object]) -> list[str]:
    """What a place may be called: nothing, or one of the things."""
    return [f"{captions.NOTHING}.", *(f"{captions.noun(thing)}." for thing in things)]


def contrast(model: Grounded, batch: Batch, named: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Both losses, and the shares of pages and of things that find their words.

    Args:
        named: ids of what places may be called, in the order of `places`.
    """
    pages, regions = model(batch["pictures"])
    count = len(pages)
    words = model.clip.encode_text(torch.cat([batch["texts"], named]), normalize=True)
    logits = model.clip.logit_scale.exp().clamp(max=100) * pages @ words[:count].T
    same = (batch["texts"][:, None] == batch["texts"][None]).all(-1)  # equal captions are not each other's negatives
    logits = logits.masked_fill(same & ~torch.eye(count, dtype=torch.bool), float("-inf"))
    right = torch.arange(count)
    page_loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2

    asked = batch["places"] >= 0
    wanted = batch["places"][asked]
    guesses = model.region_scale.exp().clamp(max=100) * regions[asked] @ words[count:].T
    weights = torch.where(wanted > 0, 1.0, NOTHING_WEIGHT)
    region_loss = (F.cross_entropy(guesses, wanted, reduction="none") * weights).sum() / weights.sum()
    found = (guesses.argmax(1) == wanted)[wanted > 0].float().mean().item()
    return page_loss + region_loss, {"match": (logits.argmax(1) == right).float().mean().item(), "found": found}


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


@torch.no_grad()
def grounding(model: Grounded, tokenizer: PreTrainedTokenizerFast, *, seed: int, count: int) -> float:
    """Share of pages of several things on which every place is called what is there, nothing included."""
    random, things, renderer = Random(seed), objects("trained"), Renderer(SIZE)
    model.eval()
    words = model.clip.encode_text(text_ids(names(things), tokenizer), normalize=True)
    scenes = [random_scene(random.choice(("group", "pair", "mixed")), things, random) for _ in range(count)]
    wanted = places(scenes, things)
    called = torch.cat([model(normalise(renderer(scenes[i : i + 100])))[1] for i in range(0, count, 100)]) @ words.T
    model.train()
    return ((called.argmax(-1) == wanted) | (wanted < 0)).all(dim=(1, 2)).float().mean().item()


def run(folder: Path, tokenizer: PreTrainedTokenizerFast, plan: Plan = PLAN) -> None:
    """Train, or go on training, and export to `folder`/vision."""
    torch.manual_seed(plan.seed)
    model = Grounded().to(memory_format=torch.channels_last)
    named = text_ids(names(objects("trained")), tokenizer)

    def examined() -> str:
        named_right = zero_shot(model.clip, tokenizer, seed=7, count=500)
        return f"zero-shot {named_right:.3f}, whole pages {grounding(model, tokenizer, seed=7, count=300):.3f}"

    draw = Draw(tokenizer, plan)
    train(model, draw, lambda batch: contrast(model, batch, named), plan, folder / "clip", watch=[(200, examined)])
    export(model.clip.half().float(), folder / "vision")  # what comes after is taught over what is shipped
