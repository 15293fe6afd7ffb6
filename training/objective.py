"""What is learnt: the next token, weighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def row_losses(model: Callable[..., object], batch: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    """Weighted sum of the cross-entropies of each row's tokens; divide by the count of labels for a mean.

    The last token of the longest row is only ever foretold, so the model is not asked what comes after it: it may be no
    picture. Logits are made where they count in some row.

    Args:
        model: a Flamingo, or what a launcher has wrapped it in.
        batch: as `data.reading.Reader.batch` makes it.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "weights"}
    inputs |= {name: inputs[name][:, :-1] for name in ("input_ids", "attention_mask")}
    targets, weights = batch["input_ids"][:, 1:], batch["weights"][:, 1:]
    asked = (weights > 0).any(dim=0).nonzero().flatten()
    logits: Tensor = model(**inputs, logits_to_keep=asked).logits  # pyright: ignore[reportAttributeAccessIssue]
    targets, weights = targets[:, asked], weights[:, asked]
    losses = F.cross_entropy(rearrange(logits, "b t v -> (b t) v").float(), targets.flatten(), reduction="none")
    # Where nothing counts, 0 rather than 0 x infinity.
    return losses.view_as(targets).where(weights > 0, 0.0).mul(weights).sum(dim=1)
