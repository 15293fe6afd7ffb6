"""What the published packages once computed: their weights, inputs and outputs, without the packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from flamingo_app.memory.linformer import Linformer, LinformerAttention, LinformerConfig, LinformerLM
from flamingo_app.memory.memformer import Memformer, MemformerConfig
from flamingo_app.memory.perceiver_io import PerceiverIO, PerceiverIOConfig, PerceiverLM
from tests.parity.translations import translate_linformer, translate_memformer, translate_perceiver
from training.replay import replay_backward

GOLDEN = Path(__file__).parents[1] / "golden"
Case = tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


def read(family: str, name: str) -> Case:
    """Arguments, weights, inputs, expected."""
    folder = GOLDEN / family / name
    tensors = [load_file(folder / f"{part}.safetensors") for part in ("weights", "inputs", "expected")]
    return (json.loads((folder / "case.json").read_text())["arguments"], *tensors)


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def perceiver_config(arguments: dict[str, Any]) -> PerceiverIOConfig:
    return PerceiverIOConfig(
        dim_latents=arguments["latent_dim"],
        tie_layers=arguments.get("weight_tie_layers", False),
        decoder_feed_forward=arguments.get("decoder_ff", False),
        **{
            name: arguments[name]
            for name in ("depth", "num_latents", "cross_heads", "cross_dim_head", "latent_heads", "latent_dim_head")
        },
    )


@pytest.mark.parametrize("name", ["io", "io_tied"])
def test_perceiver_io(name):
    arguments, weights, inputs, expected = read("perceiver_pytorch", name)
    config = perceiver_config(arguments)
    model = PerceiverIO(arguments["dim"], arguments["queries_dim"], config, arguments.get("logits_dim"))
    model.load_state_dict(translate_perceiver(weights))
    data, queries, mask = inputs["data"], inputs["queries"], inputs["mask"]
    with torch.no_grad():
        close(model.process(model.encode(data, mask)), expected["latents"])
        close(model(data, queries, mask), expected["out"])
        close(model(data, queries), expected["out_no_mask"])


def test_perceiver_lm():
    arguments, weights, inputs, expected = read("perceiver_pytorch", "lm")
    config = perceiver_config(arguments)
    model = PerceiverLM(arguments["num_tokens"], arguments["max_seq_len"], arguments["dim"], config)
    model.load_state_dict(translate_perceiver(weights))
    with torch.no_grad():
        close(model(inputs["tokens"], inputs["mask"]), expected["logits"])
        close(model(inputs["tokens"]), expected["logits_no_mask"])


@pytest.mark.parametrize("folder", sorted(path.name for path in (GOLDEN / "linformer").iterdir()))
def test_linformer(folder):
    arguments, weights, inputs, expected = read("linformer", folder)
    num_tokens = arguments.pop("num_tokens", None)
    config = LinformerConfig(max_tokens=arguments.pop("seq_len"), num_projected=arguments.pop("k"), **arguments)
    if num_tokens is not None:
        model = LinformerLM(num_tokens, config)
    else:
        model = Linformer(config) if "depth" in arguments else LinformerAttention(config)
    model.load_state_dict(translate_linformer(weights))
    x, context = inputs.get("x", inputs.get("tokens")), [inputs["context"]] if "context" in inputs else []
    with torch.no_grad():
        close(model(x, *context), expected["out"])
        close(model(x[:, :-3], *context), expected["out_of_first_n_minus_3"])


def memformer(arguments: dict[str, Any]) -> Memformer:
    return Memformer(
        MemformerConfig(
            dim=arguments["dim"],
            num_slots=arguments["num_memory_slots"],
            num_tokens=arguments["enc_num_tokens"],
            depth=arguments["enc_depth"],
            heads=arguments["enc_heads"],
            num_updates=arguments["num_mem_updates"],
            update_heads=arguments["mem_update_attn_heads"],
            num_target_tokens=arguments.get("dec_num_tokens"),
            target_depth=arguments.get("dec_depth", 1),
            target_heads=arguments.get("dec_heads", 1),
        )
    )


@pytest.mark.parametrize("name", ["encoder_only", "full"])
def test_memformer_over_segments(name):
    arguments, weights, inputs, expected = read("memformer", name)
    model, slots = memformer(arguments), None
    model.load_state_dict(translate_memformer(weights))
    with torch.no_grad():
        free = model(inputs["src_0"])
        close(free.encoded, expected["enc_out_0_no_mask"])
        close(free.slots, expected["mem_0_no_mask"])
        for index in range(3):
            source, mask = inputs[f"src_{index}"], inputs[f"src_mask_{index}"]
            target, target_mask = inputs.get(f"tgt_{index}"), inputs.get(f"tgt_mask_{index}")
            output = model(source, target, slots, mask, target_mask)
            slots = output.slots
            close(output.encoded[mask], expected[f"enc_out_{index}"][mask])
            close(slots, expected[f"mem_{index}"])
            if target is not None and target_mask is not None:
                logits = model.decoder(target[:, :-1], output.encoded, target_mask[:, :-1], mask)
                real = target_mask[:, 1:]
                close(logits[real], expected[f"dec_logits_{index}"][real])
                # The reference's own loss also counts padding: ours is of what is said.
                close(output.loss, F.cross_entropy(expected[f"dec_logits_{index}"][real], target[:, 1:][real]))


def test_memformer_replay():
    arguments, weights, inputs, expected = read("memformer", "full")
    model = memformer(arguments)
    model.load_state_dict(translate_memformer(weights))
    sources, masks = (inputs[name].split(8, dim=1) for name in ("replay_src", "replay_src_mask"))
    targets = [None] * (len(sources) - 1) + [inputs["replay_tgt"]]

    def step(slots: Tensor, segment: tuple[Tensor, Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
        source, mask, target = segment
        output = model(source, target, slots, mask)
        return output.slots, output.loss

    replay_backward(step, model.initial_slots(2), list(zip(sources, masks, targets, strict=True)))
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    wanted = {name.removeprefix("replay_grad."): x for name, x in expected.items() if name.startswith("replay_grad.")}
    for name, gradient in translate_memformer(wanted).items():
        close(found[name], gradient)
