from __future__ import annotations

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from flamingo_app.errors import CheckpointError, ModelNotFoundError
from flamingo_app.model.backbones import fingerprint, open_text, open_vision, preprocessing
from tests import tiny


@pytest.mark.parametrize("vision", [tiny.VIT, tiny.RESNET], ids=["vit", "resnet"])
def test_a_folder_is_read_as_open_clip_reads_it(tmp_path, vision):
    text = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1}
    identity = tiny.vision_folder(tmp_path / "clip", vision=vision)
    found = open_vision(identity)
    clip = open_clip.CLIP(embed_dim=tiny.EMBED_DIM, vision_cfg=dict(vision), text_cfg=text)
    clip.visual.load_state_dict(found.state)
    assert found.identity == identity
    assert found.config == vision | {"embed_dim": tiny.EMBED_DIM, "quick_gelu": False}
    assert preprocessing(identity)["resize_mode"] == "squash"
    assert preprocessing(identity)["interpolation"] == "bicubic", "what the folder leaves out is open_clip's default"


def test_a_language_model_is_read_as_hugging_face_reads_it(tmp_path):
    folder = tiny.text_folder(tmp_path / "gpt2")
    theirs = GPT2LMHeadModel.from_pretrained(folder).state_dict()
    found = open_text(folder)
    assert found.identity == folder
    assert fingerprint(found.state) == fingerprint(theirs)


def test_the_presets_towers_are_known_to_open_clip():
    assert preprocessing("ViT-B-32-quickgelu/openai")["mean"] == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)


@pytest.mark.parametrize("identity", ["ViT-B-32-quickgelu/opneai", "ViT-B-33/openai", "", "ViT-B-32"])
def test_an_unknown_tower(identity):
    with pytest.raises(ModelNotFoundError, match="NAME/PRETRAINED"):
        open_vision(identity)


def test_an_unknown_language_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match="language model"):
        open_text(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"expected transformer\.h\.0\.mlp\.c_fc\.weight; got .* without it"),
        ("wrong shape", r"expected transformer\.h\.0\.mlp\.c_fc\.weight of shape .*; got shape"),
        ("cut short", "expected readable weights"),
    ],
)
def test_a_damaged_language_model(tmp_path, damage, message):
    """Weights that it lacks would be drawn by chance."""
    folder = tiny.text_folder(tmp_path / "gpt2")
    file, name = tmp_path / "gpt2" / "model.safetensors", "transformer.h.0.mlp.c_fc.weight"
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:500])
    else:
        weights = load_file(file)
        weight = weights.pop(name)
        kept = {} if damage == "missing" else {name: weight[:-1].clone()}
        save_file(weights | kept, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        open_text(folder)


@pytest.mark.parametrize("file", ["open_clip_config.json", "open_clip_model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_folder_with_a_damaged_file(tmp_path, file, damage):
    identity = tiny.vision_folder(tmp_path / "clip")
    path = tmp_path / "clip" / file
    path.write_bytes(path.read_bytes()[:20]) if damage == "cut short" else path.unlink()
    with pytest.raises(CheckpointError, match=file):
        open_vision(identity)


@given(place=st.integers(0, 11), change=st.floats(0.5, 9))
@settings(max_examples=20)
def test_any_changed_value_changes_the_fingerprint(place, change):
    state = {"b": torch.zeros(()), "a": torch.zeros(3, 4)}
    same = {"a": state["a"].clone(), "b": state["b"]}
    assert fingerprint(same) == fingerprint(state)
    same["a"].view(-1)[place] += change
    assert fingerprint(same) != fingerprint(state)


def test_name_shape_and_type_count_too():
    zeros = torch.zeros(2, 2)
    others = [{"b": zeros}, {"a": zeros.reshape(4)}, {"a": zeros.to(torch.int32)}]
    assert len({fingerprint(state) for state in [{"a": zeros}, *others]}) == 4
