"""perceiver-pytorch: fully masked rows aside (an average of everything there, nothing here), all is the same.

Its `attn_residual` and `inverted_cross_attn` belong to later papers and are not here.
"""

from __future__ import annotations

import perceiver_pytorch
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_app.memory.perceiver_io import PerceiverIO, PerceiverIOConfig, PerceiverLM
from tests.parity.comparing import FEW, Row, compare
from tests.parity.translations import translate_perceiver

WHERE = "flamingo_app/memory/perceiver_io.py"


def row(option: str, symbol: str, reference: str, ours: str, **options: object) -> Row:
    return Row("perceiver-pytorch 0.11.0", option, symbol, reference, ours, WHERE, options)


ENCODE = row("encode and process", "z, the latent array", "PerceiverIO.forward(queries=None)", "PerceiverIO.encode")
DECODE = row("decode by queries", "output query array", "PerceiverIO.forward(queries=)", "PerceiverIO.decode")
SHARED_QUERIES = row("queries without a batch axis", "output query array", "queries", "PerceiverIO.decode")
MASK = row("input mask", "masked byte array", "mask", "PerceiverIO.encode(mask=)", masked=True)
LOGITS = row("logits", "output array", "logits_dim", "dim_logits", dim_logits=5)
TIED = row("weights tied across layers", "shared processor", "weight_tie_layers", "tie_layers", tie_layers=True)
DECODER = row("decoder's feed-forward", "MLP of the decoder", "decoder_ff", "decoder_feed_forward", decoder_ff=True)
DROPOUT = row("sequence dropout, same seed", "input dropout", "dropout_seq", "drop_elements", dropout=0.4)
MASKED_DROPOUT = row(
    "sequence dropout with a mask", "input dropout", "seq_dropout_prob", "sequence_dropout", dropout=0.4, masked=True
)
LM = row("language model", "masked LM on bytes", "PerceiverLM", "PerceiverLM")
MASKED_LM = row("language model, input mask", "masked LM on bytes", "PerceiverLM(mask=)", "PerceiverLM", masked=True)
ASKED = [DECODE, SHARED_QUERIES, MASK, LOGITS, TIED, DECODER, DROPOUT, MASKED_DROPOUT]
ROWS = [ENCODE, *ASKED, LM, MASKED_LM]


@st.composite
def configs(draw: st.DrawFn) -> PerceiverIOConfig:
    heads, size = st.integers(1, 3), st.sampled_from([2, 4])
    return PerceiverIOConfig(
        depth=draw(st.integers(1, 3)),
        num_latents=draw(st.integers(1, 4)),
        dim_latents=draw(st.sampled_from([4, 6])),
        cross_heads=draw(heads),
        cross_dim_head=draw(size),
        latent_heads=draw(heads),
        latent_dim_head=draw(size),
    )


def reference_options(config: PerceiverIOConfig, **options: object) -> dict[str, object]:
    return {
        "depth": config.depth,
        "num_latents": config.num_latents,
        "latent_dim": config.dim_latents,
        "cross_heads": config.cross_heads,
        "cross_dim_head": config.cross_dim_head,
        "latent_heads": config.latent_heads,
        "latent_dim_head": config.latent_dim_head,
    } | options


def random_mask(batch: int, tokens: int) -> Tensor:
    mask = torch.rand(batch, tokens) < 0.6
    mask[:, 0] = True
    return mask


def with_options(config: PerceiverIOConfig, case: Row) -> PerceiverIOConfig:
    return PerceiverIOConfig(
        **vars(config)
        | {
            "tie_layers": "tie_layers" in case.options,
            "decoder_feed_forward": "decoder_ff" in case.options,
            "sequence_dropout": case.options.get("dropout", 0.0),
        }
    )


@pytest.mark.parametrize("case", ASKED, ids=str)
@FEW
@given(config=configs(), batch=st.integers(1, 3), tokens=st.integers(1, 7), seed=st.integers(0, 99))
def test_outputs_of_queries(case: Row, config: PerceiverIOConfig, batch: int, tokens: int, seed: int):
    torch.manual_seed(seed)
    config = with_options(config, case)
    theirs = perceiver_pytorch.PerceiverIO(
        dim=3,
        queries_dim=7,
        logits_dim=case.options.get("dim_logits"),
        weight_tie_layers=config.tie_layers,
        decoder_ff=config.decoder_feed_forward,
        seq_dropout_prob=config.sequence_dropout,
        **reference_options(config),
    )
    mask = random_mask(batch, tokens) if "masked" in case.options else None

    def run_ours(module: PerceiverIO, data: Tensor, queries: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return (module(data, queries, mask),)

    def run_theirs(module: torch.nn.Module, data: Tensor, queries: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return (module(data, mask=mask, queries=queries),)

    queries = torch.randn(2, 7) if case is SHARED_QUERIES else torch.randn(batch, 2, 7)
    compare(
        case,
        ours=PerceiverIO(3, 7, config, case.options.get("dim_logits")),
        theirs=theirs,
        translate=translate_perceiver,
        run_ours=run_ours,
        run_theirs=run_theirs,
        inputs={"data": torch.randn(batch, tokens, 3), "queries": queries},
    )


@FEW
@given(config=configs(), batch=st.integers(1, 3), tokens=st.integers(1, 7))
def test_latents(config: PerceiverIOConfig, batch: int, tokens: int):
    torch.manual_seed(0)
    compare(
        ENCODE,
        ours=PerceiverIO(3, 7, config),
        theirs=perceiver_pytorch.PerceiverIO(dim=3, queries_dim=7, **reference_options(config)),
        translate=translate_perceiver,
        run_ours=lambda module, data: (module.process(module.encode(data)),),
        run_theirs=lambda module, data: (module(data),),
        inputs={"data": torch.randn(batch, tokens, 3)},
    )


@pytest.mark.parametrize("case", [LM, MASKED_LM], ids=str)
@FEW
@given(config=configs(), batch=st.integers(1, 3), tokens=st.integers(1, 7))
def test_language_model(case: Row, config: PerceiverIOConfig, batch: int, tokens: int):
    torch.manual_seed(0)
    mask = random_mask(batch, tokens) if "masked" in case.options else None
    compare(
        case,
        ours=PerceiverLM(11, 8, 6, config),
        theirs=perceiver_pytorch.PerceiverLM(num_tokens=11, max_seq_len=8, dim=6, **reference_options(config)),
        translate=translate_perceiver,
        run_ours=lambda module, tokens: (module(tokens, mask),),
        run_theirs=lambda module, tokens: (module(tokens, mask=mask),),
        inputs={"tokens": torch.randint(11, (batch, tokens))},
    )
