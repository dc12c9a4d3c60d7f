"""The cards of what is published: which repositories there are, their tables filled in, checked and rendered.

    python -m hub_cards.cards   # what `make cards` runs: write tables, check metadata, render to build/cards

Metadata are read by huggingface_hub's card classes, which parse evaluation results, and a data set's configurations by
datasets; on top come the rules that the Hub documents and these classes do not check. Then `RepoCard.validate` asks
the Hub; where it is out of reach, or with `HF_HUB_OFFLINE=1`, that is said and the rest counts. `ORG` stands for the
organisation that publishes; `hub_cards/publish.py` puts its name there.
"""

import argparse
import inspect
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, ModelCard, RepoCard, SpaceCard
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt
from yaml import YAMLError

from benchmarks.doc_tables import replace_tables
from hub_cards import tables
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "cards"
RECIPES = ROOT / "docs" / "recipes"
# Between marks whose names begin so stands what holds until weights or data are published. Publishing puts their
# description in the place of the first, which has this name, and empties the others.
RELEASE = "release"
SECTIONS = ("Quick start", "Training data", "Results", "Limits", "Bias", "Licences", "Citation")
SECTIONS_OF_A_SPACE = ("Quick start", "Limits", "Licences", "Citation")
CLASSES: dict[str, type[RepoCard]] = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
REQUIRED = {
    "model": ("license", "language", "library_name", "pipeline_tag", "tags"),
    "dataset": ("license", "language", "pretty_name", "task_categories", "size_categories", "annotations_creators"),
    "space": ("title", "sdk", "app_file", "license", "models"),
}
# What the Hub reads and the card classes take without knowing it; any other unknown name is a slip of the pen.
FURTHER = {
    "model": {"base_model_relation", "model-index", "widget", "inference", "new_version"},
    "dataset": {"configs", "dataset_info", "license_name", "license_link", "tags", "viewer", "modalities"},
    "space": {
        *("emoji", "colorFrom", "colorTo", "pinned", "short_description", "suggested_hardware", "thumbnail"),
        *("header", "fullWidth", "preload_from_hub", "license_name", "license_link", "disable_embedding"),
    },
}
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SDKS = ("gradio", "streamlit", "docker", "static")


@dataclass(frozen=True)
class Repository:
    """One repository of the Hub.

    Args:
        name (`str`): Its name, without the organisation.
        kind (`"model"`, `"dataset"` or `"space"`): What it is.
        folder (`Path`): Where its card (`README.md`) lies; for a Space, all of it.
        contents (`Path`, *optional*): A folder that goes beside the card.
        files (`dict[str, Path]`): Single files beside the card, by their path in the repository.
    """

    name: str
    kind: Literal["model", "dataset", "space"]
    folder: Path
    contents: Path | None = None
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def card(self) -> Path:
        """The card's file."""
        return self.folder / "README.md"


CARDS = ROOT / "hub_cards"
LICENSE = {"LICENSE": ROOT / "LICENSE"}
REPOSITORIES = (
    Repository("videorm-h14", "model", CARDS / "videorm-h14", files={"recipe.yaml": RECIPES / "videorm.yaml"}),
    Repository("videorm-mini", "model", CARDS / "videorm-mini", VIDEORM_MINI, LICENSE),
    Repository("t2v-mini", "model", CARDS / "t2v-mini", T2V_MINI, LICENSE),
    Repository(
        "draftv-modelscope-lora",
        "model",
        CARDS / "draftv-modelscope-lora",
        files={"recipe.yaml": RECIPES / "draftv" / "modelscope.yaml"},
    ),
    Repository("videoprefer", "dataset", CARDS / "videoprefer", files={"recipe.yaml": RECIPES / "videorm_v.yaml"}),
    Repository("videorm-demo", "space", CARDS / "spaces" / "videorm-demo", files=LICENSE),
)
_ORG = re.compile(rf"\bORG/(?P<name>{'|'.join(repository.name for repository in REPOSITORIES)})\b")


def main() -> None:
    """Write the tables, check every card, render those that can be read; exit with 1 if one has a problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    problems = {repository.name: check(repository) for repository in REPOSITORIES}
    try:
        for repository in REPOSITORIES:
            problems[repository.name] += [] if problems[repository.name] else ask_the_hub(repository)
    except (HTTPError, OfflineModeIsEnabled) as error:
        print(f"The Hub's validator could not be asked ({error}): an upload asks it again.")
    for name, found in problems.items():
        print(f"{name}: {'; '.join(found) or 'good'}")
    render(BUILD)
    print(f"rendered: {BUILD / 'index.html'}")
    sys.exit(1 if any(problems.values()) else 0)


def check(repository: Repository) -> list[str]:
    """Write a card's tables, and say what is wrong with it."""
    try:
        update(repository)
        return find_problems(repository)
    except (OSError, ValueError, KeyError, YAMLError) as error:
        return [f"{type(error).__name__}: {error}"]


def load(repository: Repository) -> RepoCard:
    """Read a card as huggingface_hub does.

    Raises:
        ValueError: If it has no metadata. Metadata that cannot be parsed are a `ValueError` too.
    """
    if not repository.card.read_text(encoding="utf-8").startswith("---\n"):
        raise ValueError(f"{repository.card} does not begin with metadata between two lines of ---")
    return CLASSES[repository.kind].load(repository.card)


def completed(repository: Repository) -> str:
    """Return a card's text with its tables, and the evaluation results in its metadata, as the results say."""
    text = repository.card.read_text(encoding="utf-8")
    text = replace_tables(text, lambda name: _between(text, name) if name.startswith(RELEASE) else tables.table(name))
    if repository.name != "videorm-mini":
        return text
    card, results = ModelCard(text), tables.videorm_mini_results()
    card.data.model_name, card.data.eval_results = (repository.name, results) if results else (None, None)
    return str(card)


def update(repository: Repository) -> None:
    """Write a card anew where its figures have changed."""
    text = completed(repository)
    if text != repository.card.read_text(encoding="utf-8"):
        repository.card.write_text(text, encoding="utf-8")


def find_problems(repository: Repository) -> list[str]:
    """Say what is wrong with a card, as far as can be told without a network."""
    card, kind = load(repository), repository.kind
    data = card.data.to_dict()
    problems = [f"the metadata lack {name}" for name in REQUIRED[kind] if not data.get(name)]
    known = {*inspect.signature(card.card_data_class.__init__).parameters, *FURTHER[kind]}
    problems += [f"the metadata's {name} is not known" for name in sorted(data.keys() - known)]
    if data.get("license") == "other" and not (data.get("license_name") and data.get("license_link")):
        problems.append("license: other needs license_name and license_link")
    headings = re.findall(r"^## (.+)$", card.text, re.MULTILINE)
    wanted = SECTIONS_OF_A_SPACE if kind == "space" else SECTIONS
    problems += [f"there is no section '{name}'" for name in wanted if name not in headings]
    if kind == "space":
        problems += _problems_of_a_space(data, repository.folder)
    elif "```python\n" not in card.text:
        problems.append("the quick start has no Python")
    if kind == "dataset":
        MetadataConfigs.from_dataset_card_data(card.data)
    text = repository.card.read_text(encoding="utf-8")
    if len(re.findall(r"\bORG/", text)) != len(_ORG.findall(text)):
        problems.append("ORG/ is followed by a name that is none of the repositories'")
    return problems


def _problems_of_a_space(data: dict[str, Any], folder: Path) -> list[str]:
    problems = []
    for name, values in {"sdk": SDKS, "colorFrom": COLORS, "colorTo": COLORS}.items():
        if name in data and data[name] not in values:
            problems.append(f"{name} must be one of {', '.join(values)}, got {data[name]!r}")
    if len(data.get("short_description", "")) > 60:
        problems.append("short_description has more than 60 characters")
    if data.get("sdk") == "gradio" and not re.fullmatch(r"\d+\.\d+\.\d+", str(data.get("sdk_version"))):
        problems.append(f"sdk_version must be a full version such as 6.0.0, got {data.get('sdk_version')!r}")
    named = [str(data.get("app_file")), "requirements.txt"]
    return problems + [f"there is no {name}" for name in named if not (folder / name).is_file()]


def ask_the_hub(repository: Repository) -> list[str]:
    """Have the Hub validate the metadata; needs a network."""
    try:
        CLASSES[repository.kind](for_organisation(str(load(repository)), "videorm-hf")).validate()
    except ValueError as error:
        return [str(error)]
    return []


def for_organisation(text: str, organisation: str) -> str:
    """Put the name of who publishes where a card says `ORG`."""
    return _ORG.sub(rf"{organisation}/\g<name>", text)


def with_release(text: str, release: str) -> str:
    """Put the description of published weights or data in the place of what says that there are none."""

    def fill(name: str) -> str:
        if name == RELEASE:
            return release
        return "" if name.startswith(RELEASE) else _between(text, name)

    return replace_tables(text, fill)


def says_unreleased(repository: Repository) -> bool:
    """Tell whether a repository's card says that there are no weights or data yet."""
    return f"<!-- {RELEASE}: begin -->" in repository.card.read_text(encoding="utf-8")


def render(folder: Path) -> None:
    """Write every card that can be read as a page, and an index of them."""
    templates = Environment(loader=FileSystemLoader(CARDS), autoescape=True)
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    folder.mkdir(parents=True, exist_ok=True)
    cards = [(repository, card) for repository in REPOSITORIES if (card := _load_if_good(repository)) is not None]
    present = [repository for repository, _ in cards]
    for repository, card in cards:
        page = templates.get_template("page.html.jinja2").render(
            repository=repository, metadata=card.data.to_dict(), body=markdown.render(card.text), all=present
        )
        (folder / f"{repository.name}.html").write_text(page, encoding="utf-8")
    index = templates.get_template("page.html.jinja2").render(repository=None, metadata={}, body="", all=present)
    (folder / "index.html").write_text(index, encoding="utf-8")


def _load_if_good(repository: Repository) -> RepoCard | None:
    """Read a card, or return `None` where it cannot be read: `check` says why."""
    try:
        return load(repository)
    except (OSError, ValueError, YAMLError):
        return None


def _between(text: str, name: str) -> str:
    return text.partition(f"<!-- {name}: begin -->\n")[2].partition(f"\n<!-- {name}: end -->")[0]


if __name__ == "__main__":
    main()
