"""Imported models compute what their authors' code computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from flamingo_app import load
from flamingo_app.importers import Report, import_checkpoint
from flamingo_app.importers.weights import open_weights
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from tests.importers.golden import CASES, ROOT, Case

Imported = tuple[Case, Report, FlamingoForConditionalGeneration]


@pytest.fixture(scope="module", params=CASES)
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    case, folder = Case(request.param), tmp_path_factory.mktemp("imported")
    report = import_checkpoint(case.checkpoint, folder / "out", case.options(folder))
    model, processor = load(folder / "out")
    assert model.config.image_token_id == processor.tokenizer.convert_tokens_to_ids("<image>")
    return case, report, model


def test_nothing_is_missing_that_was_ever_stored(imported: Imported):
    case, report, _ = imported
    assert (report.missing == ()) == (not case.name.startswith("open_flamingo_v1"))
    assert not report.unused
    assert len(report.loaded) >= 27


@torch.no_grad()
def test_logits(imported: Imported):
    case, _, model = imported
    for name, expected in case.expected.items():
        if not name.startswith("logits") or name.endswith(("attend_previous", "all_previous", "text_only")):
            continue
        assert_logits(case, model, name, expected)


@torch.no_grad()
def test_media_latents(imported: Imported):
    case, _, model = imported
    pixels = case.model_inputs("_left", 0)["pixel_values"]
    exists = case.model_inputs("_left", 0)["image_mask"]
    assert_close(model.encode_images(pixels)[exists], case.expected["resampler"][exists], atol=1e-5, rtol=1e-4)


def test_greedy_tokens(imported: Imported):
    case, _, model = imported
    if "greedy_tokens" not in case.expected:
        pytest.skip("its authors' code was not asked for them")
    inputs = case.model_inputs("_generate", model.config.image_token_id)
    tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert tokens[:, inputs["input_ids"].shape[1] :].tolist() == case.expected["greedy_tokens"].tolist()


@torch.no_grad()
def test_the_first_version_may_also_attend_to_the_latest_picture(tmp_path: Path):
    case = Case("open_flamingo_v1/llama_every2")
    import_checkpoint(case.checkpoint, tmp_path / "out", case.options(tmp_path, attend="latest"))
    model, _ = load(tmp_path / "out")
    for name in ("logits_right_attend_previous", "logits_left_positions_attend_previous"):
        assert_logits(case, model, name, case.expected[name])


@pytest.mark.parametrize("name", ["idefics/resampler", "idefics/qk_norms_resampler"])
@torch.no_grad()
def test_idefics_may_also_attend_to_all_previous_pictures(name: str, tmp_path: Path):
    case = Case(name)
    import_checkpoint(case.checkpoint, tmp_path / "out", case.options(tmp_path, attend="all_previous"))
    model, _ = load(tmp_path / "out")
    assert_logits(case, model, "logits_left_all_previous", case.expected["logits_left_all_previous"])


@pytest.mark.parametrize("name", ["flamingo_pytorch/palm_every1", "flamingo_pytorch/palm_every2_all_previous"])
@torch.no_grad()
def test_without_pictures_flamingo_pytorch_leaves_its_gated_blocks_out(name: str, tmp_path: Path):
    """As closed gates do. Ours run the feed-forward there too: later pictures must not change what text became."""
    case = Case(name)
    import_checkpoint(case.checkpoint, tmp_path / "out", case.options(tmp_path))
    model, _ = load(tmp_path / "out")
    inputs = case.model_inputs("_left", model.config.image_token_id)
    logits = model(**inputs, gate_scale=0.0).logits
    compared = inputs["attention_mask"].bool()
    assert_close(logits[compared], case.expected["logits_text_only"][compared], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", ["v1_keys", "otter_keys"])
@torch.no_grad()
def test_other_names_for_the_same(layout: str, tmp_path: Path):
    case = Case("open_flamingo/opt_every2")
    names = json.loads((ROOT / "renamed_keys" / "opt_every2" / f"{layout}.json").read_text())
    weights = torch.load(case.checkpoint, weights_only=True)
    save_file({names[name]: tensor.clone() for name, tensor in weights.items()}, tmp_path / "renamed.safetensors")
    report = import_checkpoint(tmp_path / "renamed.safetensors", tmp_path / "out", case.options(tmp_path))
    assert not report.unused
    assert_logits(case, load(tmp_path / "out")[0], "logits_right", case.expected["logits_right"])


def test_the_folder_can_be_moved(tmp_path: Path):
    case = Case("otter/llama_every2")  # whose backbones lie in the folder
    import_checkpoint(case.folder, tmp_path / "out", case.options(tmp_path))
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    model, _ = load(tmp_path / "elsewhere")
    assert model.config.text_model == str(tmp_path / "elsewhere" / "text")


def test_published_weights_stay_where_they_are(tmp_path: Path):
    case = Case("flamingo_mini/opt_every2")
    weights = open_weights(case.folder / "lm")
    embedding = "model.decoder.embed_tokens.weight"
    checkpoint = torch.load(case.checkpoint, weights_only=True)
    own = weights.take([embedding], (140, 32))
    checkpoint["lm.decoder.embed_tokens.weight"] = torch.cat([own, torch.ones(1, 32)])
    torch.save(checkpoint, tmp_path / "trainable.pt")
    (tmp_path / "config.json").write_text((case.folder / "config.json").read_text())
    import_checkpoint(tmp_path / "trainable.pt", tmp_path / "out", case.options(tmp_path))
    assert not (tmp_path / "out" / "text").exists()
    assert load(tmp_path / "out")[0].config.text_model == str(case.folder / "lm")


def assert_logits(case: Case, model: FlamingoForConditionalGeneration, name: str, expected: torch.Tensor) -> None:
    inputs = case.model_inputs("_right" if "_right" in name else "_left", model.config.image_token_id)
    if "_left" in name and "positions" not in name and case.counts_padding:
        inputs["position_ids"] = torch.arange(inputs["input_ids"].shape[1])[None]  # as the peer: from the padding
    compared = inputs["attention_mask"].bool()
    logits = model(**inputs).logits[..., : expected.shape[-1]]
    assert_close(logits[compared], expected[compared], atol=1e-4, rtol=1e-4)
