"""A damaged checkpoint is refused, and the line names the weight and what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_app.errors import CheckpointError
from flamingo_app.importers import Options, import_checkpoint
from flamingo_app.importers.weights import open_weights
from flamingo_app.interfaces.cli import main
from tests.importers.golden import Case

DAMAGED = {
    "open_flamingo/gpt2_every2": "perceiver.layers.0.0.to_kv.weight",
    "open_flamingo/opt_every2": "lang_encoder.model.decoder.layers.1.gated_cross_attn_layer.attn.to_q.weight",
    "open_flamingo/neox_every2": "lang_encoder.embed_out.weight",
    "open_flamingo_v1/llama_every2": "lang_encoder.model.layers.1.gated_cross_attn_layer.ff.1.weight",
    "otter/llama_every2": "vision_encoder.vision_model.encoder.layers.1.self_attn.v_proj.weight",
    "flamingo_mini/gpt2_every1": "flamingo.lm.h.1.lm_block.mlp.c_fc.weight",
    "flamingo_mini/opt_every2": "resampler.layers.1.0.to_v.weight",
    "idefics/resampler": "lm_head.additional_fc.weight",
    "idefics/qk_norms_resampler": "model.gated_cross_attn_layers.1.mlp.gate_proj.weight",
    "flamingo_pytorch/palm_every1": "layers.1.0.fn.norm.gamma",
    "flamingo_pytorch/palm_every2_all_previous": "layers.2.1.attn.to_kv.weight",
}


@pytest.mark.parametrize("damage", ["missing", "wrong shape"])
@pytest.mark.parametrize("name", DAMAGED)
def test_it_names_the_weight(name: str, damage: str, tmp_path: Path):
    case, weight = Case(name), DAMAGED[name]
    with pytest.raises(CheckpointError, match="fetch it again") as raised:
        import_checkpoint(damaged(case, weight, damage, tmp_path), tmp_path / "out", case.options(tmp_path))
    assert weight in str(raised.value)
    assert not (tmp_path / "out").exists()


REPEATED = {
    "open_flamingo/opt_every2": ("lang_encoder.lm_head.weight", "lang_encoder.model.decoder.embed_positions.weight"),
    "flamingo_pytorch/palm_every1": ("to_logits.1.weight",),
}
"""What is the same as another weight of the checkpoint, or of the language model."""


@pytest.mark.parametrize(
    ("name", "step"), [("open_flamingo/opt_every2", 1), ("idefics/resampler", 9), ("flamingo_pytorch/palm_every1", 5)]
)
def test_every_weight_counts(name: str, step: int, tmp_path: Path):
    """Whichever of what trains is lost, it is named; where the backbones are in the file, every so many of all."""
    case = Case(name)
    weights = open_weights(case.checkpoint)
    options, kept = case.options(tmp_path), {one: weights.take([one], weights.shape(one)) for one in weights}
    lay_beside(case, tmp_path)
    for weight in sorted(kept.keys() - {*REPEATED.get(name, ())})[::step]:
        torch.save({name: tensor for name, tensor in kept.items() if name != weight}, tmp_path / "damaged.pt")
        with pytest.raises(CheckpointError) as raised:
            import_checkpoint(tmp_path / "damaged.pt", tmp_path / "out", options)
        assert weight in raised.value.expected


@pytest.mark.parametrize("name", DAMAGED)
def test_a_checkpoint_cut_short(name: str, tmp_path: Path):
    case = Case(name)
    lay_beside(case, tmp_path)
    file = tmp_path / case.checkpoint.name
    for kept in (0, 100, case.checkpoint.stat().st_size // 2):
        file.write_bytes(case.checkpoint.read_bytes()[:kept])
        with pytest.raises(CheckpointError, match="fetch it again"):
            import_checkpoint(file, tmp_path / "out", case.options(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["otter/llama_every2", "flamingo_mini/gpt2_every1", "idefics/resampler"])
@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_config_that_says_too_little(name: str, content: str, tmp_path: Path):
    case = Case(name)
    lay_beside(case, tmp_path)
    shutil.copy(case.checkpoint, tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="fetch"):
        import_checkpoint(tmp_path / case.checkpoint.name, tmp_path / "out", case.options(tmp_path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"use_resampler": False}, "use_resampler True"),
        ({"hidden_act": "gelu"}, "hidden_act silu"),
        ({"vocab_size": "many"}, "transformers cannot read"),
    ],
)
def test_an_idefics_that_we_have_no_place_for(changed: dict[str, object], message: str, tmp_path: Path):
    case = Case("idefics/resampler")
    shutil.copy(case.checkpoint, tmp_path)
    config = json.loads((case.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path, tmp_path / "out", case.options(tmp_path))


def test_an_image_encoder_of_its_owners(tmp_path: Path):
    """flamingo-pytorch takes any; the user converts it, or the message says so."""
    case = Case("flamingo_pytorch/palm_every1")
    weights = torch.load(case.checkpoint, weights_only=True)
    torch.save(weights | {"img_encoder.norm.weight": torch.ones(32)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="name that with --vision"):
        import_checkpoint(tmp_path / "model.pt", tmp_path / "out", case.options(tmp_path))


@pytest.mark.parametrize("damage", ["missing", "wrong shape"])
def test_a_damaged_image_tower(damage: str, tmp_path: Path):
    case = Case("open_flamingo/opt_every2")
    vision = Path(shutil.copytree(case.folder / "vision", tmp_path / "vision"))
    weights, name = load_file(vision / "open_clip_model.safetensors"), "visual.transformer.resblocks.0.mlp.c_fc.weight"
    weight = weights.pop(name)
    kept = {} if damage == "missing" else {name: weight[:-1].clone()}
    save_file(weights | kept, vision / "open_clip_model.safetensors")
    with pytest.raises(CheckpointError, match="fetch it again") as raised:
        import_checkpoint(case.checkpoint, tmp_path / "out", case.options(tmp_path, vision=str(vision)))
    assert name in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["open_flamingo/opt_every2", "otter/llama_every2", "idefics/resampler"])
def test_a_tokenizer_that_is_not_there(name: str, tmp_path: Path):
    """Another one would do for words, and give them other numbers."""
    case = Case(name)
    (tmp_path / "empty").mkdir()
    options = case.options(tmp_path, tokenizer=str(tmp_path / "empty"))
    with pytest.raises(CheckpointError, match="--tokenizer"):
        import_checkpoint(case.checkpoint, tmp_path / "out", options)


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index(content: str, tmp_path: Path):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="fetch it again"):
        open_weights(tmp_path)


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = Case("open_flamingo/opt_every2")
    source = damaged(case, "perceiver.norm.bias", "missing", tmp_path)
    said = ["import", str(source), "--out", str(tmp_path / "out"), "--lm", str(case.folder / "lm")]
    assert main([*said, "--vision", str(case.folder / "vision")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flamingo: expected perceiver.norm.bias of shape [16]; got ")
    assert err.count("\n") == 1


def test_the_command_reports_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = Case("open_flamingo/opt_every2")
    said = ["import", str(case.checkpoint), "--out", str(tmp_path / "out"), "--lm", str(case.folder / "lm")]
    assert main([*said, "--vision", str(case.folder / "vision")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "read as        2 resampler layers, gated blocks" in out
    assert "expected       39 weights\n  loaded         39 weights\n  truly missing  nothing" in out


def test_numbers_that_are_none_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = Case("open_flamingo/opt_every2")
    whole = torch.load(case.checkpoint, weights_only=True)
    weights, prefix = whole.get("model_state_dict", whole), "module." if "model_state_dict" in whole else ""
    weights[f"{prefix}perceiver.latents"].view(-1)[3] = float("nan")
    weights[f"{prefix}perceiver.norm.bias"][0] = float("inf")
    torch.save(whole, tmp_path / "strange.pt")
    for source, told in ((case.checkpoint, False), (tmp_path / "strange.pt", True)):
        said = ["import", str(source), "--out", str(tmp_path / source.stem), "--lm", str(case.folder / "lm")]
        assert main([*said, "--vision", str(case.folder / "vision")]) == 0
        found = "numbers that are not finite, in perceiver.latents, perceiver.norm.bias:" in capsys.readouterr().out
        assert found == told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(), "--lm, which this checkpoint does not hold"),
        (Options(lm="no/such-model"), "a language model that can be found"),
    ],
)
def test_what_only_the_user_knows_is_asked_for(options: Options, message: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Exception, match=message):
        import_checkpoint(Case("open_flamingo/opt_every2").checkpoint, tmp_path / "out", options)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    with pytest.raises(CheckpointError, match="new or empty"):
        import_checkpoint(Case("otter/llama_every2").folder, Case("otter/llama_every2").folder, Options())


def test_an_unknown_kind(tmp_path: Path):
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"whose first weight is encoder\.weight"):
        import_checkpoint(tmp_path, tmp_path / "out", Options())


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize("content", [Evil(), {"weight": "words"}, {}, [torch.zeros(1)]])
def test_only_plain_tensors_are_read(content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="tensors by name"):
        open_weights(tmp_path)
    assert capsys.readouterr().out == ""


def test_a_file_cut_short(tmp_path: Path):
    for name in ("checkpoint.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(Case("open_flamingo/opt_every2").checkpoint.read_bytes()[:1000])
        with pytest.raises(CheckpointError, match="fetch it again"):
            open_weights(tmp_path / name)


def test_two_files_need_a_choice(tmp_path: Path):
    for name in ("first.pt", "second.pt"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match="with 2 files of weights"):
        open_weights(tmp_path)


def damaged(case: Case, weight: str, damage: str, folder: Path) -> Path:
    """A copy of the case's checkpoint, and of what lies beside it, with that weight gone or of another shape."""
    safe = case.checkpoint.suffix == ".safetensors"
    whole = load_file(case.checkpoint) if safe else torch.load(case.checkpoint, weights_only=True)
    prefix = "module." if "model_state_dict" in whole else ""
    weights = whole.get("model_state_dict", whole)
    tensor = weights.pop(prefix + weight)
    if damage == "wrong shape":
        weights[prefix + weight] = tensor[:-1].clone()
    lay_beside(case, folder)
    (save_file if safe else torch.save)(whole, folder / case.checkpoint.name)
    return folder / case.checkpoint.name


def lay_beside(case: Case, folder: Path) -> None:
    """Copy what the importers read beside a checkpoint."""
    for beside in ("config.json", "tokenizer"):
        if (case.folder / beside).is_dir():
            shutil.copytree(case.folder / beside, folder / beside)
        elif (case.folder / beside).exists():
            shutil.copy(case.folder / beside, folder / beside)
