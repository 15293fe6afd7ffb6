from __future__ import annotations

import pytest

from flamingo_app.config import FlamingoConfig, GatedConfig, ResamplerConfig
from flamingo_app.errors import ConfigError
from tests import tiny


def test_it_survives_being_saved(tmp_path):
    config = tiny.config(vision=tiny.RESNET, attend="all_previous", vision_feature={"layer": 3})
    config.save_pretrained(tmp_path)
    again = FlamingoConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert (again.resampler, again.gated, again.dim_vision) == (config.resampler, config.gated, 128)


def test_without_arguments_it_is_clip_and_gpt2():
    config = FlamingoConfig()
    assert (config.dim_vision, config.text_config.model_type, config.max_positions) == (768, "gpt2", 1024)
    assert (config.num_tokens, config.first_added_token_id) == (50259, 50257)
    assert (config.resampler, config.gated) == (ResamplerConfig(), GatedConfig())
    assert config.eos_token_id == config.pad_token_id == config.end_of_chunk_token_id


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attend": "every other"}, "latest or all_previous or next"),
        ({"resampler": {"layers": 2}}, "resampler with some of depth"),
        ({"gated": {"every": 5}}, "at least one gated block"),
        ({"image_token_id": 10_000}, "image_token_id=10000"),
        ({"num_added_tokens": 4}, "0, 1, 2 or 3"),
        ({"vision": {"timm_model_name": "resnet18", "image_size": 32}}, "without layers, width"),
    ],
)
def test_what_cannot_be_built_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        tiny.config(**fields)
