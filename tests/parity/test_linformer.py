"""linformer: all is the same; the mask is ours alone, so it is tested with the laws of memory and not here."""

from __future__ import annotations

import linformer
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_app.memory.linformer import Linformer, LinformerAttention, LinformerConfig, LinformerLM
from tests.parity.comparing import FEW, Row, compare
from tests.parity.translations import translate_linformer

MAX_TOKENS = 9
PLAIN = {"dim_head": None, "one_kv_head": False, "share_kv": False}


def row(option: str, symbol: str, reference: str, ours: str, where: str = "linformer.py", **options: object) -> Row:
    return Row("linformer 0.2.3", option, symbol, reference, ours, f"flamingo_app/memory/{where}", options)


ATTENTION = row("self-attention", "E, F and k", "LinformerSelfAttention", "LinformerAttention", tokens=MAX_TOKENS)
SHORTER = row("inputs shorter than the maximum", "n", "proj_k[:kv_len]", "LinformerAttention", tokens=5)
CONTEXT = row("context", "cross-attention", "context", "LinformerAttention.forward(context=)", tokens=4, context=7)
ONE_HEAD = row("one key-value head", "headwise sharing", "one_kv_head", "one_kv_head", tokens=6, one_kv_head=True)
SHARED = row("shared keys and values", "key-value sharing", "share_kv", "share_kv", tokens=6, share_kv=True)
BOTH = row(
    "one shared key-value head", "both sharings", "one_kv_head, share_kv", "one_kv_head, share_kv",
    tokens=6, one_kv_head=True, share_kv=True,
)  # fmt: skip
HEAD_SIZE = row("size of a head", "d_k", "dim_head", "dim_head", tokens=6, dim_head=3)
STACK = row("stack", "layers", "Linformer", "Linformer")
REVERSIBLE = row("reversible stack", "x1, x2", "ReversibleSequence", "run_reversibly", "reversible.py", reversible=True)
LM = row("language model", "masked LM", "LinformerLM", "LinformerLM")
REVERSIBLE_LM = row(
    "reversible language model", "masked LM", "LinformerLM(reversible=True)", "LinformerLM", reversible=True
)
ATTENTIONS = [ATTENTION, SHORTER, CONTEXT, ONE_HEAD, SHARED, BOTH, HEAD_SIZE]
ROWS = [*ATTENTIONS, STACK, REVERSIBLE, LM, REVERSIBLE_LM]


@st.composite
def configs(draw: st.DrawFn) -> LinformerConfig:
    return LinformerConfig(
        dim=8,
        max_tokens=MAX_TOKENS,
        num_projected=draw(st.integers(1, 5)),
        depth=draw(st.integers(1, 3)),
        heads=draw(st.sampled_from([1, 2, 4])),
        one_kv_head=draw(st.booleans()),
        share_kv=draw(st.booleans()),
    )


def reference_options(config: LinformerConfig) -> dict[str, object]:
    return {
        "dim": config.dim,
        "seq_len": config.max_tokens,
        "k": config.num_projected,
        "heads": config.heads,
        "dim_head": config.dim_head,
        "one_kv_head": config.one_kv_head,
        "share_kv": config.share_kv,
    }


@pytest.mark.parametrize("case", ATTENTIONS, ids=str)
@FEW
@given(config=configs(), batch=st.integers(1, 3))
def test_attention(case: Row, config: LinformerConfig, batch: int):
    torch.manual_seed(0)
    chosen = {name: case.options.get(name, default) for name, default in PLAIN.items()}
    config = LinformerConfig(**vars(config) | chosen)
    inputs = {"x": torch.randn(batch, case.options["tokens"], config.dim)}
    if "context" in case.options:
        inputs["context"] = torch.randn(batch, case.options["context"], config.dim)
    compare(
        case,
        ours=LinformerAttention(config),
        theirs=linformer.LinformerSelfAttention(**reference_options(config)),
        translate=translate_linformer,
        run_ours=lambda module, x, context=None: (module(x, context),),
        run_theirs=lambda module, x, context=None: (module(x, context=context),),
        inputs=inputs,
    )


@pytest.mark.parametrize("case", [STACK, REVERSIBLE], ids=str)
@FEW
@given(config=configs(), batch=st.integers(1, 3), tokens=st.integers(1, MAX_TOKENS))
def test_stack(case: Row, config: LinformerConfig, batch: int, tokens: int):
    torch.manual_seed(0)
    config = LinformerConfig(**vars(config) | case.options)
    compare(
        case,
        ours=Linformer(config),
        theirs=linformer.Linformer(depth=config.depth, reversible=config.reversible, **reference_options(config)),
        translate=translate_linformer,
        run_ours=lambda module, x: (module(x),),
        run_theirs=lambda module, x: (module(x),),
        inputs={"x": torch.randn(batch, tokens, config.dim)},
    )


@pytest.mark.parametrize("case", [LM, REVERSIBLE_LM], ids=str)
@FEW
@given(config=configs(), batch=st.integers(1, 3), tokens=st.integers(1, MAX_TOKENS))
def test_language_model(case: Row, config: LinformerConfig, batch: int, tokens: int):
    torch.manual_seed(0)
    config = LinformerConfig(**vars(config) | case.options)
    options = reference_options(config) | {"depth": config.depth, "reversible": config.reversible}

    def run(module: torch.nn.Module, tokens: Tensor) -> tuple[Tensor, ...]:
        return (module(tokens),)

    compare(
        case,
        ours=LinformerLM(11, config),
        theirs=linformer.LinformerLM(num_tokens=11, **options),
        translate=translate_linformer,
        run_ours=run,
        run_theirs=run,
        inputs={"tokens": torch.randint(11, (batch, tokens))},
    )
