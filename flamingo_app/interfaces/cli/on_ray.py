"""The same job on the machines of a Ray cluster: each actor has a model, and the records come back here in order."""

from __future__ import annotations

import json
import logging
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flamingo_app.errors import FlamingoError
from flamingo_app.images import Source
from flamingo_app.interfaces.cli.common import load_model

LOCAL = "local"


class Worker:
    """An actor: labels batches of pictures that it opens itself, so they must lie where every machine finds them."""

    def __init__(self, options: Namespace, prepare: Any) -> None:
        model, self.processor = load_model(options.model)
        self.labeller = prepare(model, self.processor)
        self.batch_size: int = options.batch_size
        self.known: dict[str, Any] = {}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        from flamingo_app.fewshot.decoding import decoded
        from flamingo_app.fewshot.labelling import outcomes

        pictures = decoded(list(batch["source"]), self.processor.image_processor)
        batches = outcomes(self.labeller, pictures, batch_size=self.batch_size, known=self.known)
        each = [[outcome.label, outcome.error, outcome.sha256] for labelled in batches for outcome in labelled]
        return {"outcome": [json.dumps(outcome) for outcome in each]}


def label_on_ray(options: Namespace, prepare: Any, sources: Sequence[Source]) -> Iterator[list[tuple[Any, Any, Any]]]:
    """(label, error, sha256) of each picture, in order, as many at a time as come back together.

    Raises:
        FlamingoError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError:
        raise FlamingoError(
            expected="Ray for --ray", got="none installed", remedy="install flamingo-app[ray]"
        ) from None
    try:
        address = LOCAL if options.ray == LOCAL else options.ray
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError) as error:
        raise FlamingoError(
            expected="a Ray cluster", got=f"--ray {options.ray}: {error}", remedy="start one, or give local"
        ) from None
    try:
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        machines: Any = ray.cluster_resources()
        gpus = int(machines.get("GPU", 0))
        size = gpus or max(1, int(machines["CPU"]) - 1)
        rows = ray.data.from_items([{"source": source} for source in sources])
        labelled = rows.map_batches(
            Worker,
            fn_constructor_args=(options, prepare),
            batch_size=options.batch_size,
            compute=ActorPoolStrategy(min_size=1, max_size=size),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        for batch in labelled.iter_batches(batch_size=None):
            yield [json.loads(outcome) for outcome in batch["outcome"]]
    finally:
        ray.shutdown()
