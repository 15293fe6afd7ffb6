"""Laws of what tokens looked at."""

import torch

from flamingo_app.model.looking import look, rollout
from tests import tiny


def test_tokens_look_at_the_pictures_before_them_and_only_there():
    model, rows = tiny.model(attend="all_previous"), tiny.rows(["a*b*c"])
    seen = look(model, rows["input_ids"], tiny.pictures(images=2))
    assert seen.shape == (5, 2, 4)
    assert (seen >= 0).all()
    assert not seen[0].any()
    assert seen[2, 0].any()
    assert not seen[2, 1].any()
    total = sum(block.attn_gate.tanh().item() for block in model.gated_blocks)
    torch.testing.assert_close(seen[1:].sum(dim=(1, 2)), torch.full((4,), total))


def test_closed_gates_look_at_nothing_and_looking_changes_nothing():
    model, rows, pictures = tiny.model(), tiny.rows(["*abc"]), tiny.pictures()
    before = model(**rows, pixel_values=pictures).logits
    assert not look(model, rows["input_ids"], pictures, gate_scale=0.0).any()
    assert torch.equal(model(**rows, pixel_values=pictures).logits, before)


def test_a_latent_that_attends_to_one_patch_holds_that_patch():
    weights = torch.zeros(1, 2, 5)  # three patches, two latents
    weights[0, 0, 2] = weights[0, 1, 3] = 1.0  # the second looks at the first
    held = rollout([weights, weights], 3)
    assert held[0].argmax(dim=-1).tolist() == [2, 2]
    torch.testing.assert_close(held.sum(dim=-1), torch.ones(1, 2))
