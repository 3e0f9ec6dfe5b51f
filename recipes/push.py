"""A finished run on the Hugging Face hub."""

from pathlib import Path

from .. import FlatcoatError
from .record import is_finished

NOT_PUSHED = ("checkpoints/*", "run.json")
"""What resuming needs, which nobody else does."""


def push_folder(folder: Path, repo: str, private: bool = False) -> str:
    """Upload a run's model, card, recipe and figures to a repository, made where there is none; its address.

    Raises FlatcoatError for a run that is not finished and where the hub refuses or cannot be reached.
    """
    if not is_finished(folder):
        raise FlatcoatError(f"{folder} holds no finished run: train it first, or --resume it")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            ignore_patterns=list(NOT_PUSHED),
            commit_message=f"Upload {folder.resolve().name}, trained with flatcoat",
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FlatcoatError(f"{repo} cannot be pushed: {reason} (log in with `hf auth login`)") from error
    return str(address)
