from __future__ import annotations

import open_clip
import pytest
import torch

from flamingo_app.config import FeatureConfig
from flamingo_app.errors import UnsupportedBackboneError
from flamingo_app.model.vision_encoder import VisionEncoder, build_tower
from tests import tiny


def encoder(vision: dict = tiny.VIT, **feature) -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(vision | {"embed_dim": tiny.EMBED_DIM}, FeatureConfig(**feature))


@pytest.mark.parametrize(
    ("vision", "feature", "shape"),
    [
        (tiny.VIT, {}, (4, 16)),
        (tiny.VIT, {"keep_cls": True}, (5, 16)),
        (tiny.VIT, {"layer": 0}, (4, 16)),
        (tiny.RESNET, {}, (1, 256)),
        (tiny.RESNET, {"layer": 3}, (4, 128)),
        (tiny.RESNET, {"layer": 0}, (64, 8)),
    ],
)
def test_shapes_are_those_the_config_foretells(vision, feature, shape):
    patches = encoder(vision, **feature)(tiny.pictures(2, 3).expand(-1, -1, 2, -1, -1, -1))
    assert patches.shape == (2, 3, 2, *shape)
    assert tiny.config(vision=vision, vision_feature=feature).dim_vision == shape[1]


def test_vit_patches_are_open_clips_own():
    ours, pixels = encoder(keep_cls=True), tiny.pictures()[0, 0]
    ours.tower.output_tokens = True
    _, tokens = ours.tower(pixels)
    torch.testing.assert_close(ours.patches(pixels)[:, 1:], tokens)


def test_the_last_layer_norm_is_a_switch():
    raw, normed, pixels = encoder(layer_norm=False), encoder(), tiny.pictures()[0, 0]
    torch.testing.assert_close(raw.tower.ln_post(raw.patches(pixels)), normed.patches(pixels))
    assert not torch.allclose(raw.patches(pixels), normed.patches(pixels))


def test_resnet_patches_are_the_rows_of_its_map():
    ours, pixels = encoder(tiny.RESNET, layer=3), tiny.pictures()[0, 0]
    tower = ours.tower
    feature_map = tower.layer3(tower.layer2(tower.layer1(tower.stem(pixels))))
    torch.testing.assert_close(ours.patches(pixels)[0, 1], feature_map[0, :, 0, 1])


@pytest.mark.parametrize("vision", [tiny.VIT, tiny.RESNET], ids=["vit", "resnet"])
def test_pooled_is_what_clip_compares_pictures_by(vision):
    torch.manual_seed(0)
    text = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1}
    clip = open_clip.CLIP(embed_dim=tiny.EMBED_DIM, vision_cfg=dict(vision), text_cfg=text).eval()
    ours, pixels = encoder(vision), tiny.pictures(3)[:, 0, 0]
    ours.tower.load_state_dict(clip.visual.state_dict())
    torch.testing.assert_close(ours.pooled(pixels), clip.encode_image(pixels, normalize=True))


def test_it_never_learns_and_its_statistics_never_move():
    ours = encoder(tiny.RESNET).train()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    assert not ours(tiny.pictures()).requires_grad
    assert not any(module.training for module in ours.modules())
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_other_towers_are_refused():
    vision = {"timm_model_name": "resnet10t", "image_size": 32, "embed_dim": 8}
    with pytest.raises(UnsupportedBackboneError, match="TimmModel"):
        build_tower(vision)
