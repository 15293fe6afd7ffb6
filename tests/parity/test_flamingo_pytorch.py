"""flamingo-pytorch: all is the same, apart from text that stands before any picture.

With `only_attend_immediate_media=False` such a token is hidden from every picture by a large negative number, which
makes its attention the average of all pictures, later ones included: what is said first would depend on what is shown
last. Here it sees nothing, and gets zero, in both modes.
"""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from flamingo_pytorch import FlamingoPaLM
from flamingo_pytorch import flamingo_pytorch as reference
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flamingo_app.config import GatedConfig, ResamplerConfig
from flamingo_app.importers import Options
from flamingo_app.model.gated_cross_attention import GatedCrossAttentionBlock, MaskedCrossAttention
from flamingo_app.model.perceiver_resampler import PerceiverResampler
from tests.parity.comparing import FEW, Row, agree, compare, compare_imported, renamed, shake

RESAMPLER_FILE = "flamingo_app/model/perceiver_resampler.py"
GATED_FILE = "flamingo_app/model/gated_cross_attention.py"
PALM_FILE = "flamingo_app/model/palm.py"


def row(option: str, symbol: str, reference: str, ours: str, where: str, **options: object) -> Row:
    return Row("flamingo-pytorch 0.1.2", option, symbol, reference, ours, where, options)


IN_ORDER = row(
    "resampler, 1 to 4 frames, each to its own latents", "x_f + t_f", "media_pos_emb", "image_embeddings",
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
WHOLE = [
    row("the whole model, latest picture", "figure 3", "FlamingoPaLM", "PaLMForCausalLM", PALM_FILE, latest=True),
    row("the whole model, all previous pictures", "figure 3", "FlamingoPaLM", "PaLMForCausalLM", PALM_FILE,
        latest=False),
    row("the whole model, clips", "x_f + t_f", "video_frame_pos_emb", "frame_embeddings", RESAMPLER_FILE,
        latest=True, clips=True),
]  # fmt: skip
ROWS = [IN_ORDER, FRAMES_TOGETHER, *ATTENTIONS, *BEFORE, *BLOCKS, *WHOLE]

DIM, DIM_HEAD = 8, 4


def translate_resampler(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = {"0": "attention", "1": "feed_forward"}
    translated = {}
    for name, tensor in tensors.items():
        if name.startswith("layers."):
            layers, index, part, rest = name.split(".", 3)
            name = ".".join([layers, index, parts[part], rest])
        elif name == "media_pos_emb":
            name, tensor = "image_embeddings", tensor.squeeze(1)
        translated[name] = tensor
    return translated


translate_block = renamed(("attn.", "attention."), ("ff.", "feed_forward."))


def translate_gates(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.squeeze(0) if name.endswith("_gate") else tensor
        for name, tensor in translate_block(tensors).items()
    }


SIZES = {
    "frames": st.integers(1, 4),
    "batch": st.integers(1, 3),
    "patches": st.integers(1, 4),
    "latents": st.integers(1, 3),
    "depth": st.integers(1, 2),
    "heads": st.integers(1, 3),
}


@FEW
@given(**SIZES)
def test_resampler_in_order(frames: int, batch: int, patches: int, latents: int, depth: int, heads: int):
    torch.manual_seed(0)
    sizes = {"depth": depth, "num_latents": latents, "heads": heads, "dim_head": DIM_HEAD, "ff_mult": 2}
    compare(
        IN_ORDER,
        ours=PerceiverResampler(DIM, ResamplerConfig(max_images=4, **sizes)),
        theirs=reference.PerceiverResampler(dim=DIM, num_media_embeds=4, **sizes),
        translate=translate_resampler,
        run_ours=lambda module, patches: (module(patches[:, :, None]),),
        run_theirs=lambda module, patches: (module(patches),),
        inputs={"patches": torch.randn(batch, frames, patches, DIM)},
    )


@FEW
@given(**SIZES)
def test_resampler_of_clips(frames: int, batch: int, patches: int, latents: int, depth: int, heads: int):
    torch.manual_seed(0)
    sizes = {"depth": depth, "num_latents": latents, "heads": heads, "dim_head": DIM_HEAD, "ff_mult": 2}
    theirs = reference.PerceiverResampler(dim=DIM, num_media_embeds=1, **sizes)
    del theirs.media_pos_emb  # an input here: ours adds it to the frames of a clip, theirs to pictures side by side
    theirs.media_pos_emb = torch.zeros(1, 1, DIM)

    def run_ours(module: PerceiverResampler, patches: Tensor, embeddings: Tensor) -> tuple[Tensor, ...]:
        module.frame_embeddings = embeddings
        return (module(patches[:, None])[:, 0],)

    def run_theirs(module: nn.Module, patches: Tensor, embeddings: Tensor) -> tuple[Tensor, ...]:
        placed = patches + rearrange(embeddings, "frames dim -> frames 1 dim")
        return (module(rearrange(placed, "b f n d -> b (f n) d"))[:, 0],)

    compare(
        FRAMES_TOGETHER,
        ours=PerceiverResampler(DIM, ResamplerConfig(**sizes)),
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


class Patches(nn.Module):
    """The image encoder of the golden cases: a convolution over patches."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, DIM, 4, stride=4)

    def forward(self, pictures: Tensor) -> Tensor:
        return rearrange(self.proj(pictures), "batch dim rows columns -> batch (rows columns) dim")


@pytest.mark.parametrize("case", WHOLE, ids=str)
@FEW
@given(
    places=places(),
    latents=st.integers(1, 3),
    heads=st.integers(1, 3),
    depth=st.integers(1, 3),
    every=st.integers(1, 3),
    frames=st.integers(2, 3),
)
def test_whole_model(case: Row, places: Tensor, latents: int, heads: int, depth: int, every: int, frames: int):
    """Through a file and the importer. Texts begin with a picture where an earlier token would see all that follow.

    The reference freezes `video_frame_pos_emb`, which nothing then trains; here it does.
    """
    torch.manual_seed(0)
    latest, clips = case.options["latest"], "clips" in case.options
    if not latest:
        places[:, 0] = True
        places &= places.cumsum(dim=1) <= places.sum(dim=1).min()
    theirs = FlamingoPaLM(
        dim=DIM,
        num_tokens=11,
        depth=depth,
        dim_head=DIM_HEAD,
        heads=heads,
        cross_attn_every=every,
        img_encoder=Patches(),
        perceiver_num_latents=latents,
        max_video_frames=3 if clips else None,
        only_attend_immediate_media=latest,
    )
    shake(theirs)
    pictures = torch.randn(len(places), int(places[0].sum()), *([frames] if clips else []), 3, 8, 8)
    compare_imported(
        case,
        theirs=theirs,
        save=lambda folder: torch.save(theirs.state_dict(), folder / "model.pt"),
        options=Options(image_size=8, attend="latest" if latest else "all_previous"),
        run_theirs=lambda ids: theirs(ids, **{"videos" if clips else "images": pictures}),
        input_ids=torch.randint(4, 11, places.shape).masked_fill(places, 3),
        pixel_values=pictures if clips else pictures.unsqueeze(2),
    )
