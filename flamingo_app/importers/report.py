"""What an import found, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flamingo_app.config import FlamingoConfig
from flamingo_app.importers.peer import Peer
from flamingo_app.importers.weights import Weights

SHOWN = 5
"""Names of a list that are worth printing."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an import found.

    Attributes:
        family: whose checkpoint it is.
        sizes: what was told from the names of the weights: a whole layer that is gone is seen here, and nowhere else.
        loaded: names of the checkpoint that became ours: all that were expected, or the import would have failed.
        missing: what the peer never stored, in words.
        unused: names that we have no place for.
        notes: what the user should know.
        out: where the model is now.
    """

    family: str
    sizes: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    out: Path

    @classmethod
    def of(cls, peer: Peer, weights: Weights, missing: tuple[str, ...], config: FlamingoConfig, out: Path) -> Report:
        """The report of an import that has taken from `weights` all that it needed."""
        unused = (name for name in weights if name not in weights.taken and not name.startswith(peer.copies))
        notes = list(peer.notes)
        if weights.not_finite:
            notes.append(
                f"numbers that are not finite, in {_some(sorted(weights.not_finite))}: its training had failed or the "
                "file is damaged, and the model will say nothing sensible"
            )
        if peer.tokens.tokenizer is None:
            notes.append("no tokenizer was found, so flamingo cannot open it yet: import again with --tokenizer")
        return cls(
            family=peer.family,
            sizes=_sizes(config),
            loaded=tuple(sorted(weights.taken)),
            missing=missing,
            unused=tuple(sorted(unused)),
            notes=tuple(notes),
            out=out,
        )

    def lines(self) -> Iterator[str]:
        """The report for people."""
        yield f"{self.family}: {self.out}"
        yield f"  read as        {self.sizes}"
        yield f"  expected       {len(self.loaded) + len(self.missing)} weights"
        yield f"  loaded         {len(self.loaded)} weights"
        yield f"  truly missing  {'; '.join(self.missing) or 'nothing'}"
        if self.unused:
            yield f"  not needed     {_some(self.unused)}"
        for note in self.notes:
            yield f"  note           {note}"


def _some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _sizes(config: FlamingoConfig) -> str:
    where = "after" if config.gated.after else "before"
    layers = ", ".join(map(str, config.gated_layers))
    of = config.text_config.num_hidden_layers
    return f"{config.resampler.depth} resampler layers, gated blocks {where} layers {layers} of {of}"
