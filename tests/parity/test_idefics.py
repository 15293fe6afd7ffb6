"""Idefics' resampler, as transformers has it: the feed-forward's ReLU aside, which is put into ours for the test."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import IdeficsConfig
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from flamingo_app.config import ResamplerConfig
from flamingo_app.model.perceiver_resampler import PerceiverResampler
from tests.parity.comparing import FEW, Row, compare, renamed

WHERE = "flamingo_app/model/perceiver_resampler.py"
ROWS = [
    Row("Idefics (transformers 5)", "resampler", "Perceiver Resampler", "IdeficsPerceiverResampler",
        "PerceiverResampler", WHERE, {"qk_norm": False}),
    Row("Idefics (transformers 5)", "resampler, norms on queries and keys", "Q-K layer norms",
        "qk_layer_norms_perceiver", "qk_norm", WHERE, {"qk_norm": True}),
]  # fmt: skip
DIM = 6

rename = renamed(
    ("layer_norm.weight", "norm.weight"),
    ("layer_norm.bias", "norm.bias"),
    ("blocks.", "layers."),
    (".0.context_norm", ".attention.norm_media"),
    (".0.latents_norm", ".attention.norm_latents"),
    (".0.q_norm", ".attention.norm_q"),
    (".0.k_norm", ".attention.norm_k"),
    (".0.q_proj", ".attention.to_q"),
    (".0.k_proj", ".attention.to_k"),
    (".0.v_proj", ".attention.to_v"),
    (".0.output_proj", ".attention.to_out"),
    (".1.ln", ".feed_forward.0"),
    (".1.fc", ".feed_forward.1"),
    (".1.c_proj", ".feed_forward.3"),
)


def translate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our keys and values come from one matrix."""
    named = rename(tensors)
    for name in [name for name in named if ".to_k." in name]:
        values = named.pop(name.replace(".to_k.", ".to_v."))
        named[name.replace(".to_k.", ".to_kv.")] = torch.cat([named.pop(name), values])
    return named


@pytest.mark.parametrize("case", ROWS, ids=str)
@FEW
@given(
    pictures=st.integers(1, 3),
    patches=st.integers(1, 5),
    latents=st.integers(1, 3),
    depth=st.integers(1, 2),
    heads=st.integers(1, 3),
)
def test_resampler(case: Row, pictures: int, patches: int, latents: int, depth: int, heads: int):
    torch.manual_seed(0)
    config = IdeficsConfig(
        vision_config={"embed_dim": DIM}, perceiver_config={"qk_layer_norms_perceiver": case.options["qk_norm"]}
    )
    ours = PerceiverResampler(
        DIM, ResamplerConfig(depth=depth, num_latents=latents, heads=heads, dim_head=4, **case.options)
    )
    for layer in ours.layers:
        layer.feed_forward[2] = nn.ReLU()
    compare(
        case,
        ours=ours,
        theirs=IdeficsPerceiverResampler(config, DIM, depth, heads, 4, latents),
        translate=translate,
        run_ours=lambda module, patches: (module(patches[None, :, None])[0],),
        run_theirs=lambda module, patches: (module(patches),),
        inputs={"patches": torch.randn(pictures, patches, DIM)},
    )
