"""Fine-tune a model on pictures and texts: `python -m training.train --data FOLDER --output RUN`.

python -m training.train --data my-folder --output runs/mine                 this machine
accelerate launch --config_file training/configs/ddp.yaml -m training.train ...   many
python -m training.train --data my-folder --output runs/mine --check         only look at the data
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flamingo_app.errors import ConfigError
from flamingo_app.interfaces.cli.common import guarded
from training.settings import NAMES, PARTS, PRECISIONS, TRACKERS, Settings, flag


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Fine-tune a model on pictures and texts; it can be stopped at any time and resumed exactly.",
        epilog="exit status: 0 done, 1 the run could not go on, 2 bad usage or bad data, "
        "130 or 143 saved and stopped by Ctrl-C or SIGTERM",
        allow_abbrev=False,
    )
    default: Any = {name: Settings.__dataclass_fields__[name].default for name in NAMES}

    def add(name: str, kind: Any, help: str, **more: Any) -> None:
        shown = "" if default[name] is None else f" (default: {default[name]})"
        parser.add_argument(flag(name), type=kind, default=default[name], help=help + shown, **more)

    parser.add_argument("--data", required=True, metavar="PATH", help="folder with metadata.jsonl, .csv, COCO .json, "
                        ".tar shards, MMC4 or OBELICS .jsonl, picture-book:COUNT, or a mixture's .json")  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--check", action="store_true", help="only look at the data and say what is wrong with it")
    add("eval_data", str, "held-out data, measured before, between and after", metavar="PATH")
    add("model", str, "starter, a preset, or a folder", metavar="MODEL")
    parser.add_argument("--resume", choices=["latest"], help="go on from the newest whole checkpoint in --output")
    parser.add_argument(
        "--train", type=_parts, default=("all",), metavar="PARTS", help=f"some of {','.join(PARTS)} (default: all)"
    )
    add("lora", int, "rank of adapters on the frozen language model; 0 for none", metavar="RANK")
    add("epochs", float, "passes over the data", metavar="N")
    add("steps", int, "optimiser steps, instead of --epochs", metavar="N")
    add("batch_size", int, "samples at once, in each process", metavar="N")
    add("accumulate", int, "batches for one optimiser step", metavar="N")
    add("learning_rate", float, "the highest; warm-up before, half a cosine after", metavar="RATE")
    add("gate_rate", float, "factor on the learning rate of the gates", metavar="FACTOR")
    add("warmup", float, "share of the steps", metavar="SHARE")
    add("weight_decay", float, "on matrices alone", metavar="DECAY")
    add("clip", float, "largest norm of the gradient", metavar="NORM")
    add("seed", int, "another seed, another order", metavar="N")
    add("workers", int, "processes that read ahead", metavar="N")
    parser.add_argument("--augment", action="store_true", help="show another part of each picture every time")
    add("max_tokens", int, "cut longer samples (default: what the model reads)", metavar="N")
    add("max_images", int, "of one sample", metavar="N")
    add("image_root", Path, "folder of the pictures, where it is not that of the file", metavar="DIR")
    add("similarity", float, "of MMC4 pictures to their sentences, at least", metavar="S")
    add("max_bad", float, "share of bad rows that is tolerated", metavar="SHARE")
    add("check_rows", int, "look at so many rows of each source first (default: all)", metavar="N")
    add("feature_cache", Path, "keep the image tower's patches there, and encode each picture once", metavar="DIR")
    add("precision", str, "auto is bf16 on an accelerator, fp32 on a CPU", choices=PRECISIONS)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    add("save_every", int, "steps between checkpoints", metavar="STEPS")
    add("keep", int, "checkpoints that are kept", metavar="N")
    add("eval_every", int, "steps between evaluations; 0 is before and after only", metavar="STEPS")
    add("eval_items", int, "samples of --eval-data that are measured", metavar="N")
    add("track", str, "where figures go", choices=TRACKERS)
    add("push_to_hub", str, "upload the result to this repository", metavar="NAME")
    parser.add_argument("--dry-run", action="store_true", help="with --push-to-hub: only say what would be uploaded")
    return parser


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def main(argv: list[str] | None = None) -> int:
    options = vars(build_parser().parse_args(argv))
    only_check = options.pop("check")

    def run() -> int:
        _need("accelerate", "scipy")
        settings = Settings(**options | {"resume": options["resume"] == "latest"})
        return _check(settings) if only_check else _train(settings)

    return guarded("train", run)


def _need(*packages: str) -> None:
    """Raise `ConfigError` where what training alone needs is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ConfigError(
            expected=f"{' and '.join(packages)} for training",
            got=f"no {missing[0]}",
            remedy="install them: .venv/bin/pip install -e '.[train]'",
        )


def _check(settings: Settings) -> int:
    from data import linter
    from training.preparing import prepare

    findings = prepare(settings).findings
    print("\n".join(linter.table(findings)))
    linter.check(findings, most_bad=settings.max_bad)
    return 0


def _train(settings: Settings) -> int:
    for name in ("output", "feature_cache"):
        place: Path | None = getattr(settings, name)
        if place and any(path.exists() and not path.is_dir() for path in (place, *place.parents)):
            raise ConfigError(
                expected=f"a folder after {flag(name)}", got=f"{place}, where a file is", remedy="choose another"
            )
    if not settings.resume and any((settings.output / name).exists() for name in ("checkpoints", "config.json")):
        raise ConfigError(
            expected="a new folder after --output",
            got=f"{settings.output}, which holds a run",
            remedy="go on with it by --resume latest, or choose another",
        )
    from data import linter
    from training import hub, sharding
    from training.finetune import Finetuning
    from training.launch import accelerator, alone, begin_tracking
    from training.preparing import prepare

    if settings.push_to_hub:
        hub.check_name(settings.push_to_hub)
    shard = sharding.asked(settings)
    launched = accelerator(settings)
    material = prepare(settings)
    if launched.is_main_process:
        print("\n".join(linter.table(material.findings)), flush=True)
    linter.check(material.findings, most_bad=settings.max_bad)
    settings.output.mkdir(parents=True, exist_ok=True)
    with alone(settings.output) if launched.is_main_process else nullcontext():
        run = Finetuning(settings, material, launched, shard=shard)
        begin_tracking(launched, settings, run.start)
        return run.train()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.exit(status)
