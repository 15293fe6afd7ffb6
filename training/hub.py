"""The result of a run to a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from flamingo_app.errors import ConfigError, TrainingError

KINDS = ("*.json", "*.safetensors", "*.svg", "README.md", "log.jsonl", "text/*")


def check_name(repository: str) -> None:
    """Refuse, before hours of training, a name that no repository can have.

    Raises:
        ConfigError: for such a name.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise ConfigError(
            expected="a repository after --push-to-hub: user/name", got=repr(repository), remedy="correct it"
        ) from None


def uploads(folder: Path) -> list[str]:
    """The files that make up the model and its card: no checkpoints, no trackers' files."""
    return sorted({str(path.relative_to(folder)) for kind in KINDS for path in folder.glob(kind) if path.is_file()})


def push(folder: Path, repository: str, *, dry_run: bool) -> None:
    """Upload a finished run, or only say what would be uploaded.

    Raises:
        TrainingError: the hub did not take it; the run itself is whole.
    """
    files = uploads(folder)
    if dry_run:
        print(f"would upload to {repository}:", *(f"  {file}" for file in files), sep="\n")
        return
    hub = HfApi()
    try:
        hub.create_repo(repository, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=files)
    except (HfHubHTTPError, OSError) as error:
        raise TrainingError(
            expected=f"the hub to take {repository}",
            got=str(error).splitlines()[0],
            remedy=f"log in by `hf auth login`, then `hf upload {repository} {folder}`",
        ) from error
