"""flamingo-pytorch: all is the same, apart from text that stands before any picture.

With `only_attend_immediate_media=False` such a token is hidden from every picture by a large negative number, which
makes its attention the average of all pictures, later ones included: what is said first would depend on what is shown
last. Here it sees nothing, and gets zero, in both modes.
"""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from flamingo_pytorch import flamingo_pytorch as reference
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flamingo_app.config import GatedConfig, ResamplerConfig
from flamingo_app.model.gated_cross_attention import GatedCrossAttentionBlock, MaskedCrossAttention
from flamingo_app.model.perceiver_resampler import PerceiverResampler
from tests.parity.comparing import FEW, Row, agree, compare, renamed

RESAMPLER_FILE = "flamingo_app/model/perceiver_resampler.py"
GATED_FILE = "flamingo_app/model/gated_cross_attention.py"


def row(option: str, symbol: str, reference: str, ours: str, where: str, **options: object) -> Row:
    return Row("flamingo-pytorch 0.1.2", option, symbol, reference, ours, where, options)


FRAMES_APART = row(
    "resampler, 1 to 4 frames, each to its own latents", "x_f + t_f", "PerceiverResampler", "PerceiverResampler",
    RESAMPLER_FILE,
)  # fmt: skip
FRAMES_TOGETHER = row(
    "resampler, 1 to 4 frames to the same latents", "x_f + t_f, flattened", "media_pos_emb", "frame_embeddings",
    RESAMPLER_FILE,
)  # fmt: skip
ATTENTIONS = [
    row("cross-attention to the latest picture", "mask of phi", "MaskedCrossAttention", "MaskedCrossAttention",
        GATED_FILE, latest=True),
    row("cross-attention to all previous pictures", "mask of phi", "only_attend_immediate_media=False",
        'MaskedCrossAttention', GATED_FILE, latest=False),
]  # fmt: skip
BEFORE = [
    row("text before any picture, latest", "phi = 0", "zero", "MaskedCrossAttention: zero", GATED_FILE, latest=True),
    row("text before any picture, all previous", "phi = 0", "average of all pictures",
        "MaskedCrossAttention: zero, on purpose", GATED_FILE, latest=False),
]  # fmt: skip
BLOCKS = [
    row("gated block, latest picture", "tanh(alpha)", "GatedCrossAttentionBlock", "GatedCrossAttentionBlock",
        GATED_FILE, latest=True),
    row("gated block, all previous pictures", "tanh(alpha)", "attn_gate, ff_gate", "attn_gate, ff_gate",
        GATED_FILE, latest=False),
]  # fmt: skip
ROWS = [FRAMES_APART, FRAMES_TOGETHER, *ATTENTIONS, *BEFORE, *BLOCKS]

DIM, DIM_HEAD = 8, 4


def translate_resampler(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = {"0": "attention", "1": "feed_forward"}
    translated = {}
    for name, tensor in tensors.items():
        if name.startswith("layers."):
            layers, index, part, rest = name.split(".", 3)
            name = ".".join([layers, index, parts[part], rest])
        translated[name] = tensor
    return translated


translate_block = renamed(("attn.", "attention."), ("ff.", "feed_forward."))


def translate_gates(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.squeeze(0) if name.endswith("_gate") else tensor
        for name, tensor in translate_block(tensors).items()
    }


@pytest.mark.parametrize("together", [False, True])
@FEW
@given(
    frames=st.integers(1, 4),
    batch=st.integers(1, 3),
    patches=st.integers(1, 4),
    latents=st.integers(1, 3),
    depth=st.integers(1, 2),
    heads=st.integers(1, 3),
)
def test_resampler(together: bool, frames: int, batch: int, patches: int, latents: int, depth: int, heads: int):
    torch.manual_seed(0)
    sizes = {"depth": depth, "num_latents": latents, "heads": heads, "dim_head": DIM_HEAD, "ff_mult": 2}
    theirs = reference.PerceiverResampler(dim=DIM, num_media_embeds=1, **sizes)
    del theirs.media_pos_emb  # an input here: ours adds it to the frames of a clip, theirs to pictures side by side
    theirs.media_pos_emb = torch.zeros(frames, 1, DIM)
    ours = PerceiverResampler(DIM, ResamplerConfig(**sizes))

    def placed(patches: Tensor, embeddings: Tensor) -> Tensor:
        return patches + rearrange(embeddings, "frames dim -> frames 1 dim")

    def run_ours(module: PerceiverResampler, patches: Tensor, embeddings: Tensor) -> tuple[Tensor, ...]:
        if together:
            module.frame_embeddings = embeddings
            return (module(patches[:, None])[:, 0],)
        return (module(placed(patches, embeddings)[:, :, None]),)

    def run_theirs(module: nn.Module, patches: Tensor, embeddings: Tensor) -> tuple[Tensor, ...]:
        if together:
            return (module(rearrange(placed(patches, embeddings), "b f n d -> b (f n) d"))[:, 0],)
        module.media_pos_emb = embeddings[:, None]
        return (module(patches),)

    compare(
        FRAMES_TOGETHER if together else FRAMES_APART,
        ours=ours,
        theirs=theirs,
        translate=translate_resampler,
        run_ours=run_ours,
        run_theirs=run_theirs,
        inputs={"patches": torch.randn(batch, frames, patches, DIM), "embeddings": torch.randn(frames, DIM)},
    )


@st.composite
def places(draw: st.DrawFn) -> Tensor:
    """Where the pictures of each row stand, all rows with as many; text before, between and after them."""
    batch, tokens, images = draw(st.integers(1, 3)), draw(st.integers(3, 8)), draw(st.integers(1, 3))
    rows = [draw(st.permutations([True] * images + [False] * (tokens - images))) for _ in range(batch)]
    return torch.tensor(rows)


def seen(places: Tensor, latents: int, latest: bool) -> tuple[Tensor, Tensor]:
    """Which token sees which latent, and which token comes after a picture at all."""
    time = places.cumsum(dim=1)[..., None]
    ordinals = torch.arange(1, int(places[0].sum()) + 1).repeat_interleave(latents)
    return (ordinals == time if latest else ordinals <= time), time[..., 0] > 0


def pair(latest: bool, heads: int) -> tuple[nn.Module, nn.Module]:
    ours = MaskedCrossAttention(DIM, DIM, GatedConfig(heads=heads, dim_head=DIM_HEAD))
    theirs = reference.MaskedCrossAttention(dim=DIM, heads=heads, dim_head=DIM_HEAD, only_attend_immediate_media=latest)
    return ours, theirs


def words_and_media(places: Tensor, latents: int) -> dict[str, Tensor]:
    return {
        "x": torch.randn(*places.shape, DIM),
        "media": torch.randn(len(places), int(places[0].sum()), latents, DIM),
    }


def flat(media: Tensor) -> Tensor:
    return rearrange(media, "batch images latents dim -> batch (images latents) dim")


@pytest.mark.parametrize("case", ATTENTIONS, ids=str)
@FEW
@given(places=places(), latents=st.integers(1, 3), heads=st.integers(1, 3))
def test_attention_after_a_picture(case: Row, places: Tensor, latents: int, heads: int):
    torch.manual_seed(0)
    ours, theirs = pair(case.options["latest"], heads)
    visible, after = seen(places, latents, case.options["latest"])
    compare(
        case,
        ours=ours,
        theirs=theirs,
        translate=dict,
        run_ours=lambda module, x, media: (module(x, flat(media), visible)[after],),
        run_theirs=lambda module, x, media: (module(x, media, media_locations=places)[after],),
        inputs=words_and_media(places, latents),
    )


@pytest.mark.parametrize("case", BEFORE, ids=str)
@FEW
@given(places=places(), latents=st.integers(1, 3), heads=st.integers(1, 3))
def test_attention_before_any_picture(case: Row, places: Tensor, latents: int, heads: int):
    """Ours is zero in both modes; theirs where it attends to the latest, else the average of all that is ever shown."""
    torch.manual_seed(0)
    ours, theirs = pair(case.options["latest"], heads)
    ours.load_state_dict(theirs.state_dict())
    visible, after = seen(places, latents, case.options["latest"])
    x, media = words_and_media(places, latents).values()
    with torch.no_grad():
        agree(case, ours(x, flat(media), visible)[~after], torch.zeros(int((~after).sum()), DIM))
        values = theirs.to_kv(flat(media)).chunk(2, dim=-1)[1]
        leak = torch.zeros_like(x) + theirs.to_out(values.mean(dim=1, keepdim=True))
        expected = torch.zeros_like(x) if case.options["latest"] else leak
        agree(case, theirs(x, media, media_locations=places)[~after], expected[~after])


@pytest.mark.parametrize("case", BLOCKS, ids=str)
@FEW
@given(places=places(), latents=st.integers(1, 3), heads=st.integers(1, 3))
def test_gated_block(case: Row, places: Tensor, latents: int, heads: int):
    torch.manual_seed(0)
    visible, after = seen(places, latents, case.options["latest"])
    compare(
        case,
        ours=GatedCrossAttentionBlock(DIM, DIM, GatedConfig(heads=heads, dim_head=DIM_HEAD)),
        theirs=reference.GatedCrossAttentionBlock(
            dim=DIM, heads=heads, dim_head=DIM_HEAD, only_attend_immediate_media=case.options["latest"]
        ),
        translate=translate_gates,
        run_ours=lambda module, x, media: (module(x, flat(media), visible)[after],),
        run_theirs=lambda module, x, media: (module(x, media, media_locations=places)[after],),
        inputs=words_and_media(places, latents),
    )
