"""What flamingo-pytorch once computed: its weights, inputs and outputs, without the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from flamingo_app.config import GatedConfig, ResamplerConfig
from flamingo_app.importers.flamingo_pytorch import BLOCK, RESAMPLER
from flamingo_app.importers.peer import rename
from flamingo_app.model.gated_cross_attention import GatedCrossAttentionBlock
from flamingo_app.model.perceiver_resampler import PerceiverResampler

GOLDEN = Path(__file__).parents[1] / "golden" / "flamingo_pytorch"


def read(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Arguments, weights, inputs, expected."""
    tensors = [load_file(GOLDEN / name / f"{part}.safetensors") for part in ("weights", "inputs", "expected")]
    return (json.loads((GOLDEN / name / "case.json").read_text())["arguments"], *tensors)


def fill(module: torch.nn.Module, weights: dict[str, Tensor], names: dict[str, tuple[str, ...]]) -> None:
    """Give a module of ours the weights of theirs."""
    own = module.state_dict()
    module.load_state_dict({name: weights[rename(name, names, "")[0]].reshape(own[name].shape) for name in own})


@torch.no_grad()
def test_resampler() -> None:
    arguments, weights, inputs, expected = read("resampler")
    config = {name: arguments[name] for name in ("depth", "num_latents", "heads", "dim_head", "ff_mult")}
    ours = PerceiverResampler(arguments["dim"], ResamplerConfig(max_images=arguments["num_media_embeds"], **config))
    fill(ours, weights, RESAMPLER)
    assert_close(ours(inputs["patch_tokens"][:, :, None]), expected["resampler"], atol=1e-5, rtol=1e-5)
    alone = inputs["patch_tokens_without_media_axis"][:, None, None]
    assert_close(ours(alone), expected["resampler_without_media_axis"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["gated_block_latest", "gated_block_all_previous"])
@torch.no_grad()
def test_gated_block(name: str) -> None:
    """But for tokens that see no picture in the mode of all previous ones: there they see all of them, ours none."""
    arguments, weights, inputs, expected = read(name)
    latest = arguments["only_attend_immediate_media"]
    ours = GatedCrossAttentionBlock(
        arguments["dim"], arguments["dim"], GatedConfig(heads=arguments["heads"], dim_head=arguments["dim_head"])
    )
    fill(ours, weights, BLOCK)
    text, media = inputs["text"], inputs["media"]
    time = inputs["media_locations"].cumsum(dim=1)[..., None]
    ordinals = torch.arange(1, media.shape[1] + 1).repeat_interleave(media.shape[2])
    visible = ordinals == time if latest else ordinals <= time
    media = rearrange(media, "batch images latents dim -> batch (images latents) dim")
    compared = ~expected["row_sees_no_picture"] | latest
    assert_close(ours(text, media, visible)[compared], expected["out"][compared], atol=1e-5, rtol=1e-5)
    blind = (ours(text, media, visible) - expected["out"]).abs()[~compared]
    assert latest or (len(blind) and blind.max() > 1e-3)
    everything = torch.ones_like(visible)
    assert_close(ours(text, media, everything), expected["out_without_media_locations"], atol=1e-5, rtol=1e-5)
