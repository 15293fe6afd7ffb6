"""Models that others trained, as models of ours.

weights          a checkpoint's tensors by name, read when they are taken
conversion       from a checkpoint to a folder that `flamingo_app.load` opens
  open_flamingo, otter, idefics, flamingo_mini, flamingo_pytorch
                   what each peer's checkpoint means, in our words: a `peer.Peer`
  language_model, clip_vision, convolution
                   its backbones, where the checkpoint holds or changes them
tokens           the special tokens that the peer added, under the ids that it gave them
report           what was expected, what was loaded, what is truly missing
"""

from flamingo_app.importers.conversion import import_checkpoint
from flamingo_app.importers.peer import Options
from flamingo_app.importers.report import Report

__all__ = ["Options", "Report", "import_checkpoint"]
