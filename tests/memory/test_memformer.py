from __future__ import annotations

import torch

from flamingo_app.memory.memformer import Memformer, MemformerConfig
from flamingo_app.memory.memory_update import MemoryUpdate
from flamingo_app.memory.position_bias import RelativePositionBias


def memformer(**options: object) -> Memformer:
    torch.manual_seed(0)
    sizes = {"dim": 8, "num_slots": 3, "num_tokens": 9, "depth": 2, "heads": 2, "update_heads": 2}
    target = {"num_target_tokens": 7, "target_heads": 2}
    return Memformer(MemformerConfig(**sizes | target | options))


def words(*shape: int) -> torch.Tensor:
    return torch.randint(7, shape, generator=torch.Generator().manual_seed(1))


def test_padding_changes_neither_the_segment_nor_the_memory():
    model, source = memformer(), words(2, 6)
    mask = torch.arange(6).expand(2, 6) < 4
    padded, short = model(source, source_mask=mask), model(source[:, :4])
    torch.testing.assert_close(padded.encoded[:, :4], short.encoded)
    torch.testing.assert_close(padded.slots, short.slots)


def test_the_memory_carries_the_past():
    model, now = memformer(), words(1, 4)
    after = [model(past).slots for past in (words(1, 5), words(1, 5).flip(1))]
    first, second = (model(now, slots=slots).encoded for slots in after)
    assert not torch.allclose(first, second)


def test_no_slot_sees_another():
    update, slots, turn = MemoryUpdate(8, heads=2, num_updates=3), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    other = slots.clone()
    other[:, 1] = 0.0
    changed = (update(slots, turn) - update(other, turn)).abs().amax(dim=(0, 2))
    assert (changed > 1e-3).tolist() == [False, True, False]


def test_a_target_token_sees_no_later_one_and_padding_is_no_target():
    model = memformer()
    encoded, target = model(words(2, 4)).encoded, words(2, 5)
    mask = torch.arange(5).expand(2, 5) < 3
    other = torch.where(mask, target, (target + 1) % 7)
    logits = [model.decoder(tokens, encoded) for tokens in (target, other)]
    torch.testing.assert_close(logits[0][:, :3], logits[1][:, :3])
    torch.testing.assert_close(model.decoder.loss(other, encoded, mask), model.decoder.loss(target[:, :3], encoded))


def test_generation_ends_when_all_rows_have_ended():
    model = memformer()
    encoded, start = model(words(2, 4)).encoded, words(2, 1)
    free = model.decoder.generate(start, encoded, max_new_tokens=6)
    assert free.shape == (2, 6)
    ended = model.decoder.generate(start, encoded, max_new_tokens=6, end_token=int(free[0, 0]))
    assert ended.shape[1] <= 6
    assert (ended[0] == free[0, 0]).all()


def test_an_encoder_without_decoder_has_no_loss():
    model = memformer(num_target_tokens=None)
    assert model.decoder is None
    assert model(words(2, 4), words(2, 4)).loss is None


def test_buckets_tell_directions_apart_only_where_asked():
    one, both = (RelativePositionBias(2, both_directions=value) for value in (False, True))
    distances = torch.tensor([[-500, -3, 0, 3, 500]])
    assert one.buckets(distances).tolist() == [[0, 0, 0, 3, 31]]
    assert both.buckets(distances).tolist() == [[31, 19, 0, 3, 15]]
