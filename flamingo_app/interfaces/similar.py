"""Of many examples those whose pictures look most like one that was just shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flamingo_app.conversation import Example, Picture
from flamingo_app.fewshot.index import Index, index_folder
from flamingo_app.fewshot.retrieval import similar_shots
from flamingo_app.images import Source
from flamingo_app.interfaces.service import Service


def similar_examples(service: Service, pool: Sequence[Example], picture: Picture, number: int) -> tuple[Example, ...]:
    """So many of a pool, the most alike last; what their pictures look like is kept on disk.

    Args:
        picture: one that `service.store` keeps, as those of the pool.
    """

    @torch.inference_mode()
    def embed(pictures: Sequence[Source]) -> Tensor:
        pixels = service.processor.image_processor.pixels(pictures)
        return service.model.vision_encoder.pooled(pixels.to(service.model.device, service.model.dtype))

    index = Index.of(service.model, service.processor, index_folder())
    read = service.store.pictures.read
    shots = index.embeddings([read(each.picture.name) for each in pool], embed)
    (shown,) = embed([read(picture.name)]).cpu()
    return tuple(pool[shot] for shot in similar_shots(shown, shots, [], 0, number))
