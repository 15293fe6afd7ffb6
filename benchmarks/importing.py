"""Importing a checkpoint of OpenFlamingo of a gigabyte: seconds, and the most memory of the process, of its size."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

CASE = Path(__file__).parent.parent / "tests" / "golden" / "open_flamingo" / "gpt2_every2"
DIM, LAYERS, ROWS, DIM_PATCH, INNER = 2048, 7, 143, 16, 512
GIGABYTE = 10**9


def run() -> dict[str, Any]:
    """Figures of `flamingo import` in a process of its own, reading and writing a temporary folder."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        size = _write(folder)
        started = time.perf_counter()
        ran = [sys.executable, "-m", "benchmarks.importing", str(folder)]
        peak = int(subprocess.run(ran, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        return {
            "gigabytes": size / GIGABYTE,
            "seconds": time.perf_counter() - started,
            "peak_of_size": peak / size,
        }


def _write(folder: Path) -> int:
    """A language model, its tokenizer, and a checkpoint over it; returns the checkpoint's size in bytes."""
    shutil.copytree(CASE / "lm", folder / "lm")
    text = GPT2Config(vocab_size=ROWS - 3, n_positions=96, n_embd=DIM, n_layer=LAYERS, n_head=16, n_inner=64)
    GPT2LMHeadModel(text).half().save_pretrained(folder / "lm")
    small = torch.load(CASE / "checkpoint_0.pt", weights_only=True)["model_state_dict"]
    weights = {name: tensor for name, tensor in small.items() if ".perceiver." in name}
    weights["module.lang_encoder.transformer.wte.weight"] = torch.randn(ROWS, DIM)
    for layer in range(LAYERS):
        for name, shape in _block().items():
            weights[f"module.lang_encoder.transformer.h.{layer}.gated_cross_attn_layer.{name}"] = torch.randn(shape)
    torch.save({"epoch": 0, "model_state_dict": weights}, folder / "checkpoint.pt")
    return (folder / "checkpoint.pt").stat().st_size


def _block() -> dict[str, tuple[int, ...]]:
    """Shapes of a gated block."""
    return {
        "attn_gate": (1,),
        "ff_gate": (1,),
        "attn.norm.weight": (DIM,),
        "attn.norm.bias": (DIM,),
        "attn.to_q.weight": (INNER, DIM),
        "attn.to_kv.weight": (2 * INNER, DIM_PATCH),
        "attn.to_out.weight": (DIM, INNER),
        "ff.0.weight": (DIM,),
        "ff.0.bias": (DIM,),
        "ff.1.weight": (4 * DIM, DIM),
        "ff.3.weight": (DIM, 4 * DIM),
    }


def _import(folder: Path) -> None:
    from flamingo_app.interfaces.cli import main

    given = ["--lm", str(folder / "lm"), "--vision", str(CASE / "vision")]
    status = main(["import", str(folder / "checkpoint.pt"), "--out", str(folder / "out"), *given])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    sys.exit(status)


if __name__ == "__main__":
    _import(Path(sys.argv[1]))
