"""Idefics, as transformers has it: all is the same, by the importer's own table of names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import IdeficsConfig, IdeficsForVisionText2Text
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from flamingo_app.config import GatedConfig, ResamplerConfig
from flamingo_app.importers import Options
from flamingo_app.importers.idefics import gated_fields, names_of_parts, resampler_fields
from flamingo_app.model.gated_cross_attention import GatedCrossAttentionBlock
from flamingo_app.model.perceiver_resampler import PerceiverResampler
from tests.parity.comparing import FEW, Row, Tensors, compare, compare_imported, shake

RESAMPLER_FILE = "flamingo_app/model/perceiver_resampler.py"
GATED_FILE = "flamingo_app/model/gated_cross_attention.py"


def row(option: str, symbol: str, reference: str, ours: str, where: str, **options: object) -> Row:
    return Row("Idefics (transformers 5)", option, symbol, reference, ours, where, options)


RESAMPLERS = [
    row("resampler", "Perceiver Resampler", "IdeficsPerceiverResampler", "PerceiverResampler", RESAMPLER_FILE,
        qk_norm=False),
    row("resampler, norms on queries and keys", "Q-K layer norms", "qk_layer_norms_perceiver", "qk_norm",
        RESAMPLER_FILE, qk_norm=True),
]  # fmt: skip
BLOCKS = [
    row("gated block: RMS norms and SwiGLU", "tanh(alpha)", "IdeficsGatedCrossAttentionLayer",
        "GatedCrossAttentionBlock", GATED_FILE, alpha_type="float"),
    row("gated block, a gate for each number", "tanh(alpha)", "alpha_type", "vector_gates", GATED_FILE,
        alpha_type="vector"),
    row("gated block, norms on queries and keys", "Q-K layer norms", "qk_layer_norms", "qk_norm", GATED_FILE,
        alpha_type="vector", qk_norm=True),
]  # fmt: skip
WHOLE = row("the whole model", "figure 3", "IdeficsForVisionText2Text", "FlamingoForConditionalGeneration",
            "flamingo_app/model/flamingo.py")  # fmt: skip
ROWS = [*RESAMPLERS, *BLOCKS, WHOLE]
DIM = 8


def translated(tensors: Tensors, ours: nn.Module, part: str) -> dict[str, Tensor]:
    """By our names: what they keep apart is put together."""

    def theirs(name: str) -> Tensor:
        names = [found.split(".", 3 if part.startswith("gated") else 2)[-1] for found in names_of_parts(part + name)]
        return torch.cat([tensors[found] for found in names])

    return {name: theirs(name).reshape(tensor.shape) for name, tensor in ours.state_dict().items()}


@st.composite
def configs(draw: st.DrawFn, alpha_type: str = "vector", qk_norm: bool = False) -> IdeficsConfig:
    layers = draw(st.integers(1, 3))
    return IdeficsConfig(
        vocab_size=11,
        additional_vocab_size=draw(st.integers(2, 3)),
        hidden_size=DIM,
        intermediate_size=draw(st.integers(3, 20)),
        num_hidden_layers=layers,
        num_attention_heads=draw(st.sampled_from([1, 2])),
        cross_layer_interval=draw(st.sampled_from([every for every in range(1, 4) if layers % every == 0])),
        alpha_type=alpha_type,
        qk_layer_norms=qk_norm,
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-3])),
        use_resampler=True,
        max_position_embeddings=32,
        freeze_text_layers=False,
        freeze_vision_layers=False,
        vision_config={
            "embed_dim": 6,
            "image_size": 8,
            "patch_size": 4,
            "num_attention_heads": draw(st.sampled_from([1, 3])),
            "num_hidden_layers": 2,
            "intermediate_size": 12,
            "hidden_act": draw(st.sampled_from(["gelu", "quick_gelu"])),
            "layer_norm_eps": draw(st.sampled_from([1e-5, 1e-3])),
        },
        perceiver_config={
            "resampler_n_latents": draw(st.integers(1, 3)),
            "resampler_depth": draw(st.integers(1, 2)),
            "resampler_n_heads": draw(st.integers(1, 3)),
            "resampler_head_dim": draw(st.integers(2, 5)),
            "qk_layer_norms_perceiver": draw(st.booleans()),
        },
    )


@pytest.mark.parametrize("case", RESAMPLERS, ids=str)
@FEW
@given(data=st.data(), pictures=st.integers(1, 3), patches=st.integers(1, 5))
def test_resampler(case: Row, data: st.DataObject, pictures: int, patches: int):
    torch.manual_seed(0)
    config = data.draw(configs())
    perceiver = config.perceiver_config
    perceiver.qk_layer_norms_perceiver = case.options["qk_norm"]
    ours = PerceiverResampler(6, ResamplerConfig(**resampler_fields(perceiver)))
    compare(
        case,
        ours=ours,
        theirs=IdeficsPerceiverResampler(
            config,
            6,
            perceiver.resampler_depth,
            perceiver.resampler_n_heads,
            perceiver.resampler_head_dim,
            perceiver.resampler_n_latents,
        ),
        translate=lambda tensors: translated(tensors, ours, "resampler."),
        run_ours=lambda module, patches: (module(patches[None, :, None])[0],),
        run_theirs=lambda module, patches: (module(patches),),
        inputs={"patches": torch.randn(pictures, patches, 6)},
    )


@pytest.mark.parametrize("case", BLOCKS, ids=str)
@FEW
@given(data=st.data(), batch=st.integers(1, 3), tokens=st.integers(1, 5), latents=st.integers(1, 4))
def test_gated_block(case: Row, data: st.DataObject, batch: int, tokens: int, latents: int):
    """Also where a token sees nothing: both give it nothing."""
    torch.manual_seed(0)
    config = data.draw(configs(**case.options))
    visible = torch.rand(batch, tokens, latents) < 0.5
    hidden = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)[:, None]
    ours = GatedCrossAttentionBlock(DIM, 6, GatedConfig(**gated_fields(config)))
    compare(
        case,
        ours=ours,
        theirs=IdeficsGatedCrossAttentionLayer(config, 0),
        translate=lambda tensors: translated(tensors, ours, "gated_blocks.0."),
        run_ours=lambda module, x, media: (module(x, media, visible),),
        run_theirs=lambda module, x, media: (
            module(
                x,
                image_hidden_states=media,
                image_attention_mask=hidden,
                cross_attention_gate=visible.any(dim=-1).float(),
            ),
        ),
        inputs={"x": torch.randn(batch, tokens, DIM), "media": torch.randn(batch, latents, 6)},
    )


@FEW
@given(data=st.data(), batch=st.integers(1, 2), tokens=st.integers(2, 6), qk_norm=st.booleans())
def test_whole_model(data: st.DataObject, batch: int, tokens: int, qk_norm: bool):
    """Through a file and the importer."""
    torch.manual_seed(0)
    config = data.draw(configs(alpha_type=data.draw(st.sampled_from(["float", "vector"])), qk_norm=qk_norm))
    theirs = IdeficsForVisionText2Text(config).eval()
    shake(theirs)
    images = data.draw(st.integers(1, tokens))
    places = torch.stack([torch.randperm(tokens) < images for _ in range(batch)])
    pictures = torch.randn(batch, images, 3, 8, 8)
    latest = torch.arange(1, images + 1) == places.cumsum(dim=1)[..., None]

    def save(folder: Path) -> None:
        theirs.save_pretrained(folder)

    compare_imported(
        WHOLE,
        theirs=theirs,
        save=save,
        options=Options(),
        run_theirs=lambda ids: theirs(ids, pixel_values=pictures, image_attention_mask=latest.long()).logits,
        input_ids=torch.randint(11, (batch, tokens)).masked_fill(places, 12),
        pixel_values=pictures.unsqueeze(2),
    )
