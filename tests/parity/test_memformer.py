"""memformer: all is the same, apart from rows that are padding, and from three things on purpose.

- A token that sees nothing gets nothing here, and the average of everything there; results are compared where there
  is text.
- Padding is no target here; there it is, unless its token is named `ignore_index`, as these tests do.
- Its `generate` hands its decoder an argument that the decoder refuses (pinned below); compared is what it would do.
"""

from __future__ import annotations

import memformer
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memformer.memformer import RelativePositionBias as ReferenceBias
from torch import Tensor, nn

from flamingo_app.memory.memformer import Memformer, MemformerConfig
from flamingo_app.memory.position_bias import RelativePositionBias
from tests.parity.comparing import FEW, Row, agree, compare, gradients, shake
from tests.parity.translations import translate_memformer
from training.replay import replay_backward

FOLDER = "flamingo_app/memory/"


def row(option: str, symbol: str, reference: str, ours: str, where: str = "memformer.py", **options: object) -> Row:
    return Row("memformer 0.3.1", option, symbol, reference, ours, FOLDER + where, options)


BIAS = row("relative position bias", "B, as in T5", "RelativePositionBias", "RelativePositionBias", "position_bias.py")
ENCODER = row("encoder reading the slots", "M_t, the memory", "Encoder", "MemformerStack", parts=["encoded"])
UPDATE = row(
    "memory update", "M_t+1", "mem_updater, gru, mem_ff", "MemoryUpdate", "memory_update.py", parts=["slots"], updates=1
)
UPDATES = row(
    "several updates a turn", "M_t+1", "num_mem_updates", "num_updates", "memory_update.py", parts=["slots"], updates=3
)
MASK = row("source mask", "padding", "src_mask", "source_mask", parts=["encoded", "slots"], masked=True, updates=2)
DECODER = row(
    "decoder's loss", "log p of y given x, M_t", "AutoregressiveWrapper", "MemformerDecoder.loss", parts=["loss"]
)
MASKED_DECODER = row("loss with padded targets", "padding", "tgt_mask", "target_mask", parts=["loss"], masked=True)
WHOLE = row(
    "encoder, decoder and memory over segments", "figure 2", "Memformer", "Memformer",
    parts=["encoded", "slots", "loss"], updates=2, segments=3,
)  # fmt: skip
GREEDY = row("generation, greedy", "argmax p(y)", "AutoregressiveWrapper.generate", "MemformerDecoder.generate")
SAMPLED = row("generation, sampled", "y ~ p(y)", "top_k, temperature", "MemformerDecoder.generate", sampled=True)
REPLAY = Row(
    "memformer 0.3.1", "replay back-propagation", "MRBP", "memory_replay_backprop", "replay_backward",
    "training/replay.py",
)  # fmt: skip
SEGMENTS = [ENCODER, UPDATE, UPDATES, MASK, DECODER, MASKED_DECODER, WHOLE]
ROWS = [BIAS, *SEGMENTS, GREEDY, SAMPLED, REPLAY]

PADDING = 0


@st.composite
def configs(draw: st.DrawFn) -> MemformerConfig:
    heads = st.sampled_from([1, 2, 4])
    return MemformerConfig(
        dim=8,
        num_slots=draw(st.integers(1, 4)),
        num_tokens=9,
        depth=draw(st.integers(1, 2)),
        heads=draw(heads),
        update_heads=draw(heads),
        num_target_tokens=7,
        target_depth=draw(st.integers(1, 2)),
        target_heads=draw(heads),
    )


def reference(config: MemformerConfig, longest: int = 6) -> nn.Module:
    model = memformer.Memformer(
        dim=config.dim,
        num_memory_slots=config.num_slots,
        num_mem_updates=config.num_updates,
        mem_update_attn_heads=config.update_heads,
        enc_num_tokens=config.num_tokens,
        enc_max_seq_len=longest,
        enc_depth=config.depth,
        enc_heads=config.heads,
        dec_num_tokens=config.num_target_tokens,
        dec_max_seq_len=longest,
        dec_depth=config.target_depth,
        dec_heads=config.target_heads,
    )
    model.decoder.ignore_index = PADDING
    return model


def words(batch: int, tokens: int) -> Tensor:
    return torch.randint(1, 7, (batch, tokens))


def right_padding(batch: int, tokens: int) -> Tensor:
    lengths = torch.randint(2, tokens + 1, (batch, 1))
    return torch.arange(tokens) < lengths


@pytest.mark.parametrize("case", SEGMENTS, ids=str)
@FEW
@given(config=configs(), batch=st.integers(1, 3), tokens=st.integers(2, 6), seed=st.integers(0, 99))
def test_segments(case: Row, config: MemformerConfig, batch: int, tokens: int, seed: int):
    torch.manual_seed(seed)
    config = MemformerConfig(**vars(config) | {"num_updates": case.options.get("updates", 1)})
    segments, masked = case.options.get("segments", 1), "masked" in case.options
    sources, targets = ([words(batch, tokens) for _ in range(segments)] for _ in range(2))
    source_mask, target_mask = (right_padding(batch, tokens) if masked else None for _ in range(2))
    if target_mask is not None:
        targets = [target.masked_fill(~target_mask, PADDING) for target in targets]
    real = torch.ones(batch, tokens, dtype=torch.bool) if source_mask is None else source_mask
    with_loss = "loss" in case.options["parts"]

    def results(encoded: Tensor, slots: Tensor, loss: Tensor | None) -> dict[str, Tensor | None]:
        return {"encoded": encoded[real], "slots": slots, "loss": loss}

    def run_ours(model: Memformer) -> tuple[Tensor, ...]:
        slots, found = None, []
        for source, target in zip(sources, targets, strict=True):
            output = model(source, target if with_loss else None, slots, source_mask, target_mask)
            slots = output.slots
            found += [results(*output)[part] for part in case.options["parts"]]
        return tuple(found)

    def run_theirs(model: nn.Module) -> tuple[Tensor, ...]:
        slots, found = None, []
        for source, target in zip(sources, targets, strict=True):
            output = model(source, target if with_loss else None, slots, source_mask, target_mask)
            slots = output.mem
            found += [results(*output[:2], output.dec_out)[part] for part in case.options["parts"]]
        return tuple(found)

    compare(
        case,
        ours=Memformer(config),
        theirs=reference(config),
        translate=translate_memformer,
        run_ours=run_ours,
        run_theirs=run_theirs,
        inputs={},
    )


@pytest.mark.parametrize("both_directions", [False, True])
@pytest.mark.parametrize("length", [1, 40, 300])
def test_buckets_of_positions(both_directions: bool, length: int):
    theirs, ours = (
        ReferenceBias(causal=both_directions, heads=2),
        RelativePositionBias(2, both_directions=both_directions),
    )
    ours.embedding.weight.data.copy_(theirs.relative_attention_bias.weight)
    agree(BIAS, ours(length, length).detach(), theirs(length, length)[0].detach())


@pytest.mark.parametrize("case", [GREEDY, SAMPLED], ids=str)
@FEW
@given(config=configs(), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_generation(case: Row, config: MemformerConfig, batch: int, seed: int):
    torch.manual_seed(seed)
    theirs, ours = reference(config, longest=20), Memformer(config)
    shake(theirs)
    ours.load_state_dict(translate_memformer(theirs.state_dict()))
    source, start = words(batch, 5), words(batch, 2)
    encoded = ours(source).encoded.detach()

    with pytest.raises(TypeError, match="input_mask"):
        theirs.decoder.generate(start, 1, context=encoded)
    decode = theirs.decoder.net.forward
    theirs.decoder.net.forward = lambda tokens, input_mask, **rest: decode(tokens, **rest)
    sampled = "sampled" in case.options
    choice = {"temperature": 0.7, "filter_thres": 0.5} if sampled else {"filter_thres": 0.8}  # of 7 tokens: 3, or 1
    torch.manual_seed(seed)
    expected = theirs.decoder.generate(start, 6, context=encoded, **choice)
    torch.manual_seed(seed)
    choice = {"temperature": 0.7, "top_k": 3} if sampled else {}
    tokens = ours.decoder.generate(start, encoded, max_new_tokens=6, **choice)
    agree(case, tokens.float(), expected.float())


@FEW
@given(config=configs(), batch=st.integers(1, 2), segments=st.integers(1, 4))
def test_replay(config: MemformerConfig, batch: int, segments: int):
    torch.manual_seed(0)
    longest = 4
    theirs, ours = reference(config, longest), Memformer(config)
    shake(theirs)
    ours.load_state_dict(translate_memformer(theirs.state_dict()))
    source, target = words(batch, longest * segments), words(batch, 5)
    mask = right_padding(batch, longest * segments) | (torch.arange(longest * segments) % longest == 0)
    memformer.memory_replay_backprop(theirs, source, target, src_mask=mask)

    def step(slots: Tensor, segment: tuple[Tensor, Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
        tokens, real, said = segment
        output = ours(tokens, said, slots, real)
        return output.slots, output.loss

    targets = [None] * (segments - 1) + [target]
    replay_backward(
        step,
        ours.initial_slots(batch),
        list(zip(source.split(longest, 1), mask.split(longest, 1), targets, strict=True)),
    )
    found = gradients(ours)
    for name, gradient in translate_memformer(gradients(theirs)).items():
        agree(REPLAY, found[name], gradient, f"gradient of {name}")
