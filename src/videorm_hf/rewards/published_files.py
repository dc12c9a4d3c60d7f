"""Where a reward's published weights lie: a file, a folder that holds it, or a hub repository."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError


def published_file(source: str, filename: str, revision: str | None = None) -> str | None:
    """Find a file by the name it was published under.

    Args:
        source (`str`):
            The file itself, a folder, or a hub id.
        filename (`str`):
            Its name in a folder or repository.
        revision (`str`, *optional*):
            Branch, tag or commit of a hub id.

    Returns:
        `str` or `None`: its path, or None where `source` does not have it; a hub id that is neither in the cache nor
        within reach counts as not having it.
    """
    path = Path(source)
    if path.is_file():
        return source
    if path.exists():
        return str(path / filename) if (path / filename).is_file() else None
    try:
        return hf_hub_download(source, filename, revision=revision)
    except (EntryNotFoundError, RepositoryNotFoundError, HFValidationError):
        return None
