"""Publish the repositories to an organisation of the Hub, or show what would be published.

    python -m hub_cards.publish ORG --dry-run
    python -m hub_cards.publish ORG --only videorm-mini t2v-mini
    python -m hub_cards.publish ORG --only videorm-h14 --artifact videorm-h14=FOLDER

Where weights or data were made (a folder of `videorm train`, `draftv train` or `videoprefer export`), `--artifact`
names their folder: its files are uploaded, without what only training needs (checkpoints, cached features, logs); its
own card, with the facts of how it was made, takes the place of what says that there are none; and its metadata are
added. Without it, the card goes up alone, and says so: a repository that holds weights or data already refuses that.

A dry run makes the very list of uploads that a real one sends, prints it, and asks the network for nothing. An
interrupted upload is continued by the same command: large files that arrived are not sent again.
"""

import argparse
import json
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

from hub_cards.cards import (
    CLASSES,
    REPOSITORIES,
    Repository,
    completed,
    for_organisation,
    says_unreleased,
    with_release,
)
from videorm_hf.videoprefer.export import ROWS_OF_EXPORTS, STATISTICS_FILE

# What a working copy may hold beside what is published, and what a training leaves at the top of its folder.
_LEFT_OUT = (".*", "__pycache__", "*.pyc", "*.db", "*.sqlite*")
_LEFT_OUT_AT_TOP = ("checkpoint-*", "training_args.bin", "_features", "runs")
_SPACE_TEMPLATES = "templates"
_RELEASED_SUFFIXES = (".safetensors", ".parquet", ".tar")


def main() -> None:
    """Publish, or show what would be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("organisation", help="user or organisation of the Hub")
    parser.add_argument("--only", nargs="+", choices=[repository.name for repository in REPOSITORIES])
    parser.add_argument("--artifact", nargs="+", default=[], metavar="NAME=FOLDER", help="trained weights, made data")
    parser.add_argument("--dry-run", action="store_true", help="print what would be uploaded, without a network")
    arguments = parser.parse_args()
    chosen = [one for one in REPOSITORIES if not arguments.only or one.name in arguments.only]
    try:
        artifacts = read_artifacts(arguments.artifact, {repository.name for repository in chosen})
        if not arguments.dry_run:
            for repository in chosen:
                if repository.name not in artifacts:
                    check_not_released(repository, arguments.organisation, HfApi())
        for repository in chosen:
            uploads = make_uploads(repository, arguments.organisation, artifacts.get(repository.name))
            show(repository, arguments.organisation, uploads)
            if not arguments.dry_run:
                print(upload(repository, arguments.organisation, uploads, HfApi()), end="\n\n")
        if arguments.dry_run:
            print("Dry run: nothing was uploaded.")
    except (OSError, ValueError, HTTPError) as error:  # the last without a network
        parser.exit(2, f"Error: {error}\n")


def read_artifacts(words: list[str], chosen: Collection[str]) -> dict[str, Path]:
    """Read `NAME=FOLDER` words.

    Args:
        words (`list[str]`): As given.
        chosen (`Collection[str]`): Names of the repositories that are published.

    Returns:
        `dict[str, Path]`: folders by name.

    Raises:
        ValueError: If a word is not of that form, names no repository, or one that is not published.
        FileNotFoundError: If a folder is not there or has no card.
    """
    artifacts = {}
    for word in words:
        name, _, folder = word.partition("=")
        if name not in {repository.name for repository in REPOSITORIES} or not folder:
            raise ValueError(f"--artifact takes NAME=FOLDER with the name of a repository, got {word!r}.")
        if name not in chosen:
            raise ValueError(f"--artifact names {name}, which --only leaves out: name it there too.")
        artifacts[name] = Path(folder)
        if not (artifacts[name] / "README.md").is_file():
            raise FileNotFoundError(f"{folder} has no README.md: train or export to its end, which writes one.")
    return artifacts


def make_uploads(repository: Repository, organisation: str, artifact: Path | None = None) -> list[CommitOperationAdd]:
    """List what goes into a repository: the card, and the files that stand beside it.

    Args:
        repository ([`Repository`]): Which one.
        organisation (`str`): Whose.
        artifact (`Path`, *optional*): Trained weights or made data.

    Returns:
        `list[huggingface_hub.CommitOperationAdd]`: a path in the repository each, in alphabetical order.

    Raises:
        FileNotFoundError: If what should stand beside the card is not there.
    """
    files = dict(repository.files)
    for folder in (repository.folder if repository.kind == "space" else None, repository.contents, artifact):
        if folder is None:
            continue
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not there: it holds the files of {repository.name}.")
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and _belongs(path.relative_to(folder))]
        if folder == repository.folder:  # where a Space has run there lie votes and visitors' videos, too
            paths = [path for path in paths if path.parent in (folder, folder / _SPACE_TEMPLATES)]
        files |= {path.relative_to(folder).as_posix(): path for path in paths}
    files.pop("README.md", None)
    contents: dict[str, Path | bytes] = {**files, "README.md": card(repository, organisation, artifact).encode()}
    return [CommitOperationAdd(path, contents[path]) for path in sorted(contents)]


def card(repository: Repository, organisation: str, artifact: Path | None = None) -> str:
    """Return the card as it is published; see the head of this file for what an artifact changes."""
    text = for_organisation(completed(repository), organisation)
    if artifact is None:
        return text
    kind = CLASSES[repository.kind]
    published, own = kind(text), kind.load(artifact / "README.md")
    for name, value in own.data.to_dict().items():
        if name not in published.data.to_dict():
            published.data[name] = value
    if repository.kind == "dataset":
        statistics = json.loads((artifact / STATISTICS_FILE).read_text(encoding="utf-8"))
        published.data["size_categories"] = [size_category(statistics["items"])]
    own_text = re.sub(r"^#", "##", own.text.strip(), flags=re.MULTILINE)
    published.text = with_release(published.text, own_text)
    return str(published)


def size_category(num_items: int) -> str:
    """Return the Hub's word for how large a data set is."""
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")
    return names[min(max(len(str(num_items)) - 3, 0), len(names) - 1)]


def show(repository: Repository, organisation: str, uploads: list[CommitOperationAdd]) -> None:
    """Print a repository's uploads: size in bytes, path, and how many there are."""
    print(f"{repository.kind} {organisation}/{repository.name}")
    for one in uploads:
        print(f"{one.upload_info.size:>14,}  {one.path_in_repo}")
    print(f"{sum(one.upload_info.size for one in uploads):>14,}  in {len(uploads)} files\n")


def check_not_released(repository: Repository, organisation: str, api: HfApi) -> None:
    """Make sure that a card which says that there are no weights or data does not replace that of some that are there.

    Args:
        repository ([`Repository`]): Which one, about to be published without an artifact.
        organisation (`str`): Whose.
        api (`huggingface_hub.HfApi`): Asks the Hub.

    Raises:
        ValueError: If the repository holds weights or data.
    """
    if not says_unreleased(repository):
        return
    repo_id = f"{organisation}/{repository.name}"
    try:
        files = api.list_repo_files(repo_id, repo_type=repository.kind)
    except RepositoryNotFoundError:
        return
    released = [file for file in files if file.endswith(_RELEASED_SUFFIXES)]
    if released:
        raise ValueError(
            f"{repo_id} holds {released[0]}, and the card would say that nothing was published: name the folder with "
            f"--artifact {repository.name}=FOLDER, or leave it out of --only."
        )


def upload(repository: Repository, organisation: str, uploads: list[CommitOperationAdd], api: HfApi) -> str:
    """Make the repository if it is not there, put everything into it in one commit, and return its address."""
    repo_id = f"{organisation}/{repository.name}"
    sdk = "gradio" if repository.kind == "space" else None
    address = api.create_repo(repo_id, repo_type=repository.kind, space_sdk=sdk, exist_ok=True)
    operations = [*uploads, *stale_rows(repo_id, uploads, api)] if repository.kind == "dataset" else uploads
    api.create_commit(
        repo_id, operations, commit_message=f"Publish {repository.name}", repo_type=repository.kind, num_threads=4
    )
    return str(address)


def stale_rows(repo_id: str, uploads: list[CommitOperationAdd], api: HfApi) -> list[CommitOperationDelete]:
    """List the removals of rows that an earlier export left in a data set, which would be read with the new ones."""
    stays = {one.path_in_repo for one in uploads}
    return [
        CommitOperationDelete(path)
        for path in api.list_repo_files(repo_id, repo_type="dataset")
        if path not in stays and any(fnmatchcase(path, pattern) for pattern in ROWS_OF_EXPORTS)
    ]


def _belongs(path: PurePath) -> bool:
    """Tell whether a file goes up, by its path in its folder: where that folder lies says nothing about it."""
    return not (
        any(fnmatchcase(part, pattern) for part in path.parts for pattern in _LEFT_OUT)
        or any(fnmatchcase(path.parts[0], pattern) for pattern in _LEFT_OUT_AT_TOP)
    )


if __name__ == "__main__":
    main()
