"""Which shots are shown before a picture, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from flamingo_app.errors import ConfigError

Select = Literal["random", "similar"]


def check_select(select: str) -> None:
    """Raise `ConfigError` for a way of choosing shots that there is not."""
    if select not in get_args(Select):
        raise ConfigError(
            expected=" or ".join(get_args(Select)), got=f"select={select!r}", remedy="choose one of the two"
        )


def random_shots(lengths: Sequence[int], room: int | float, num_shots: int | None, *, seed: int | str) -> list[int]:
    """One random choice for all pictures, in random order.

    Args:
        lengths: tokens of each shot.
        room: tokens that there is room for, where `num_shots` leaves it open how many are shown.
    """
    order = Random(seed).sample(range(len(lengths)), len(lengths))
    return order[: how_many(order, lengths, room, num_shots)]


def similar_shots(
    picture: Float[Tensor, " dim"],
    shots: Float[Tensor, "shots dim"],
    lengths: Sequence[int],
    room: int | float,
    num_shots: int | None,
) -> list[int]:
    """The shots whose pictures are nearest by cosine, the nearest last (RICES: Yang et al. 2022, section 3.2).

    Args:
        picture, shots: CLIP embeddings of length one.
    """
    order = [int(shot) for shot in (shots @ picture).argsort(descending=True, stable=True)]
    return order[: how_many(order, lengths, room, num_shots)][::-1]


def how_many(order: Sequence[int], lengths: Sequence[int], room: int | float, num_shots: int | None) -> int:
    """`num_shots`; or as many of the first as there is room for, but one at least: that it is too long must show."""
    if num_shots is not None:
        return num_shots
    for count, shot in enumerate(order):
        room -= lengths[shot]
        if room < 0:
            return max(count, 1)
    return len(order)
