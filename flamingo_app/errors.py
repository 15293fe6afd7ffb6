"""What can go wrong, drawn.

FlamingoError                 the root: front ends catch it and print its one line
├── PictureError              bytes, a path or an address that is no safe picture
├── PromptError               words that cannot be a prompt: empty, a special token typed, too long
├── ShotsError                a shots file that cannot be read
├── DataError                 a training folder or a record in it
├── ConfigError               a configuration that no model can be built from
├── ConversationError         no such conversation
│   └── WentOnError           one that went on elsewhere meanwhile
├── StoreError                a database or a folder of pictures that cannot be used
├── BusyError                 more is asked for than can be done
├── ModelNotFoundError        no model, preset or backbone of this name
├── UnsupportedBackboneError  a language model that would swallow our conditioning silently
├── CheckpointError           files that do not belong together, are missing or are damaged
└── TrainingError             a training run that cannot go on

Each message says what was expected, what came, and the remedy.
"""


class FlamingoError(Exception):
    """The root of every error a user can cause.

    Args:
        expected: what would have been right.
        got: what came instead, in the user's own words (flag, file, value).
        remedy: what to do about it.
    """

    def __init__(self, *, expected: str, got: str, remedy: str) -> None:
        self.expected, self.got, self.remedy = expected, got, remedy
        super().__init__(f"expected {expected}; got {got}; {remedy}")


class PictureError(FlamingoError):
    """Bytes, a path or an address that is no safe picture."""


class PromptError(FlamingoError):
    """Words that cannot be a prompt: empty, a special token typed, too long."""


class ShotsError(FlamingoError):
    """A shots file that cannot be read."""


class DataError(FlamingoError):
    """A training folder, or a record in it."""


class ConfigError(FlamingoError):
    """A configuration that no model can be built from."""


class ModelNotFoundError(FlamingoError):
    """No model, preset or backbone of this name."""


class UnsupportedBackboneError(FlamingoError):
    """A language model that would swallow our conditioning silently."""


class CheckpointError(FlamingoError):
    """Files that do not belong together, are missing or are damaged."""


class ConversationError(FlamingoError):
    """No such conversation."""


class WentOnError(ConversationError):
    """A conversation that went on elsewhere meanwhile."""


class StoreError(FlamingoError):
    """A database or a folder of pictures that cannot be used."""


class BusyError(FlamingoError):
    """More is asked for than can be done: wait, or ask for less."""


class TrainingError(FlamingoError):
    """A training run that cannot go on."""
