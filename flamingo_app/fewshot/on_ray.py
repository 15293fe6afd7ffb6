"""The same job on the machines of a Ray cluster: each actor has a model, and the outcomes come back here in order."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from flamingo_app.errors import DataError, FlamingoError, PictureError
from flamingo_app.fewshot.decoding import Decode, decoded
from flamingo_app.fewshot.labelling import Outcome, outcomes
from flamingo_app.fewshot.records import Record
from flamingo_app.images import Packed, Source, content_hash
from flamingo_app.model.checkpoint import load
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor

LOCAL = "local"
STORE, BLOCK = 128 * 2**20, 2**20
"""Bytes of shared memory of a cluster that is started here, and of what travels at once: names and records, no pixels.
The defaults are a third of the machine's memory, and blocks of which that little would hold one."""


class Worker:
    """An actor: labels batches of pictures that it opens itself, so they must lie where every machine finds them.

    Args:
        folder: where relative paths begin, as they do where the job was started.
    """

    def __init__(self, folder: str, model_name: str, prepare: Callable[..., Any]) -> None:
        self.folder, self.model_name, self.prepare = folder, model_name, prepare

    def __call__(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Outcomes of a row's batch, or why there can be none."""
        try:
            return {"outcomes": json.dumps(self._label(json.loads(row["sources"]))), "error": ""}
        except FlamingoError as error:
            return {"outcomes": "[]", "error": json.dumps(vars(error))}

    def _label(self, batch: Sequence[Any]) -> list[dict[str, Any]]:
        labeller, processor = self._labeller
        pictures = decoded([_source(spelled) for spelled in batch], processor.image_processor)
        labelled = outcomes(labeller, pictures, batch_size=len(batch), known={})
        return [vars(outcome) for each in labelled for outcome in each]

    @cached_property
    def _labeller(self) -> tuple[Any, FlamingoProcessor]:
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise FlamingoError(
                expected="the folder that the job was started in, on every machine",
                got=f"{self.folder!r} on {socket.gethostname()}: {error.strerror}",
                remedy="share it, or start the job in one that is shared",
            ) from None
        model, processor = load(self.model_name, device="cuda" if torch.cuda.is_available() else "cpu")
        return self.prepare(model, processor), processor


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines that Ray has joined.

    Args:
        address: of one of them, or "local" for a cluster on this machine that lives as long as the job.
        model_name: what each of them loads.
        prepare: from a model to what labels a batch.
        batch_size: pictures at once.
    """

    address: str
    model_name: str
    prepare: Callable[..., Any]
    batch_size: int

    def outcomes(
        self, sources: Sequence[Source], image_processor: FlamingoImageProcessor, known: dict[str, Record]
    ) -> Iterator[list[Outcome[Record]]]:
        """As `labelling.outcomes`: copies are labelled once over the whole cluster.

        Raises:
            FlamingoError: Ray is not installed, there is no cluster at the address, or one of its machines cannot work.
        """
        with ThreadPoolExecutor() as threads:
            hashes = [*threads.map(_hash, sources)]
        first: dict[str, int] = {}
        for number, sha256 in enumerate(hashes):
            if sha256 not in known:
                first.setdefault(sha256 or f"number {number}", number)
        new = [*first.values()]
        batches = [new[start : start + self.batch_size] for start in range(0, len(new), self.batch_size)]
        ends = [*(batch[0] for batch in batches[1:]), len(sources)]
        start = 0
        labelled = self._labelled([[sources[number] for number in batch] for batch in batches])
        for batch, end in zip(batches or [[]], ends, strict=True):
            made = dict(zip(batch, next(labelled) if batch else (), strict=True))
            known.update({each.sha256: each.label for each in made.values() if each.sha256 and each.label is not None})
            yield [
                made.get(number) or _copy(sources[number], hashes[number], image_processor, known)
                for number in range(start, end)
            ]
            start = end

    def _labelled(self, batches: Sequence[Sequence[Source]]) -> Iterator[list[Outcome[Record]]]:
        """Outcomes of each batch, in their order."""
        if not batches:
            return
        with _connected(self.address) as ray:
            machines: Mapping[str, float] = ray.cluster_resources()
            gpus = int(machines.get("GPU", 0))
            rows = [{"sources": json.dumps([_spelled(source) for source in batch])} for batch in batches]
            labelled = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                Worker,
                fn_constructor_args=(str(Path.cwd()), self.model_name, self.prepare),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=gpus or max(1, int(machines["CPU"]) - 1)),
                num_cpus=1,
                num_gpus=1 if gpus else 0,
            )
            for row in labelled.iter_rows():
                if row["error"]:
                    raise FlamingoError(**json.loads(row["error"]))
                yield [Outcome(**fields) for fields in json.loads(row["outcomes"])]


@contextmanager
def _connected(address: str) -> Generator[Any]:
    """Ray, joined to a cluster, unless the caller has done that, and without its advice."""
    try:
        import ray
        import ray.data
        from ray.exceptions import RayError
    except ImportError:
        raise FlamingoError(
            expected="Ray for --ray", got="none installed", remedy="install flamingo-app[ray]"
        ) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    mine = not ray.is_initialized()
    try:
        if mine:
            _join(ray, address)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        context.target_max_block_size = BLOCK
        yield ray
    except RayError as error:
        raise FlamingoError(
            expected="machines that can do the work", got=f"--ray {address}: {_last(error)}", remedy="see to that one"
        ) from None
    finally:
        if mine:
            ray.shutdown()


def _join(ray: Any, address: str) -> None:
    here: dict[str, Any] = {}
    if address == LOCAL:
        os.environ.setdefault("RAY_worker_niceness", "0")  # or what is started here gives way to everything else
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        here = {"include_dashboard": False, "object_store_memory": STORE}
    else:
        _check_listening(address)
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(address, error) from None


def _check_listening(address: str) -> None:
    """Whether anything is at host:port, which Ray itself finds out in ten minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "://" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> FlamingoError:
    what = getattr(error, "strerror", None) or _last(error)
    return FlamingoError(expected="a Ray cluster", got=f"--ray {address}: {what}", remedy="start one, or give local")


def _last(error: Exception) -> str:
    """The last line of what it says, which names the cause."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _hash(source: Source) -> str | None:
    try:
        return content_hash(source)
    except PictureError:
        return None


def _copy(
    source: Source, sha256: str | None, image_processor: FlamingoImageProcessor, known: Mapping[str, Record]
) -> Outcome[Record]:
    """Of a picture whose content came before: its label, or why this one cannot be opened either."""
    if sha256 is not None and sha256 in known:
        return Outcome(known[sha256], None, sha256)
    return Outcome(None, Decode(image_processor).decode(source).error, None)


def _spelled(source: Source) -> str | dict[str, Any]:
    """A picture's place as JSON has it: tables of Ray hold no names that are not UTF-8."""
    if isinstance(source, Packed):
        return asdict(source)
    if isinstance(source, str | Path):
        return str(source)
    raise DataError(expected="pictures in files for --ray", got="one in memory", remedy="save it first")


def _source(spelled: str | dict[str, Any]) -> Source:
    return spelled if isinstance(spelled, str) else Packed(**spelled)
