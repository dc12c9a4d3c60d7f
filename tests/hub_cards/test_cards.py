"""The cards say what the results say, their metadata are what the Hub reads, and slips are found."""

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, RepoCard

from draftv_trainer.cli import train
from hub_cards import cards, tables
from tests.hub_cards.hub_server import HubServer
from videorm_hf.cli.train import parser as reward_training_parser
from videorm_hf.cli.yaml_options import parse_options
from videorm_hf.videoprefer.model_pool import read_pool

REPOSITORIES = {repository.name: repository for repository in cards.REPOSITORIES}
# Before huggingface_hub 2 the validator asks huggingface.co, whatever the endpoint.
needs_endpoint = pytest.mark.skipif(
    "ENDPOINT" not in inspect.getsource(RepoCard.validate), reason="this validator cannot be sent to another address"
)
ALL = pytest.mark.parametrize("repository", cards.REPOSITORIES, ids=lambda repository: repository.name)
# Names and the interval's confidence, which are no figures of ours.
NAMES = re.compile(r"CC BY-NC 4\.0|Apache-2\.0|HPS v2\.\d( and v2\.\d)?|95 %")
FIGURE = re.compile(r"\d+(?:\.\d+)? ?%|\d+\.\d+|\d+ (?:million|MB|GB|seconds?|s|steps|videos|items|pairs)\b")


def altered(repository: cards.Repository, folder: Path, old: str, new: str) -> cards.Repository:
    """A copy of a card in which something is otherwise."""
    text = repository.card.read_text(encoding="utf-8")
    assert old in text
    (folder / "README.md").write_text(text.replace(old, new), encoding="utf-8")
    return dataclasses.replace(repository, folder=folder)


@ALL
def test_tables_and_metadata_say_what_the_results_say(repository: cards.Repository) -> None:
    assert cards.completed(repository) == repository.card.read_text(encoding="utf-8"), "run `make cards`"


def test_every_table_is_shown() -> None:
    text = "".join(repository.card.read_text(encoding="utf-8") for repository in cards.REPOSITORIES)
    shown = {name for name in re.findall(r"<!-- (\w+): begin -->", text) if not name.startswith(cards.RELEASE)}
    assert {name for name in shown if not name.startswith(tables.MINIATURE)} == tables.TABLES.keys()
    assert {"miniature_videorm_mini", "miniature_t2v_mini"} <= shown


def test_another_figure_would_be_noticed(tmp_path: Path) -> None:
    changed = altered(REPOSITORIES["videorm-h14"], tmp_path, "| 72%", "| 73%")
    assert cards.completed(changed) == REPOSITORIES["videorm-h14"].card.read_text(encoding="utf-8")


@ALL
def test_figures_stand_in_tables_only(repository: cards.Repository) -> None:
    text = cards.load(repository).text
    text = re.sub(r"<!-- (\w+): begin -->.*?<!-- \1: end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)", "", text, flags=re.DOTALL | re.MULTILINE)
    assert FIGURE.findall(NAMES.sub("", text)) == []


@ALL
def test_there_is_nothing_wrong(repository: cards.Repository) -> None:
    assert cards.find_problems(repository) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("videorm-h14", "license: cc", "licence: cc", "lack license.*licence is not known"),
        ("videorm-h14", "## Bias", "## Leanings", "no section 'Bias'"),
        ("videorm-mini", "ORG/videorm-h14", "ORG/videorm-h13", "none of the repositories"),
        ("t2v-mini", "```python\n", "```\n", "no Python"),
        ("videoprefer", "license_link: ", "license_lnk: ", "needs license_name and license_link"),
        ("videorm-demo", "colorFrom: blue", "colorFrom: beige", "colorFrom must be one of red, .* got 'beige'"),
        ("videorm-demo", "app_file: app.py", "app_file: other.py", "there is no other.py"),
        ("videorm-demo", "sdk: gradio", "sdk: gardio", "sdk must be one of"),
        ("videorm-demo", "models:", "modules:", "lack models.*modules is not known"),
        ("videorm-demo", "## Quick start", "## Start", "no section 'Quick start'"),
    ],
)
def test_slips_are_found(name: str, old: str, new: str, problem: str, tmp_path: Path) -> None:
    changed = altered(REPOSITORIES[name], tmp_path, old, new)
    assert re.search(problem, "; ".join(cards.find_problems(changed)))


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("t2v-mini", "model-index:\n- name: mini\n  results: [{task: {type: x}, metrics: [{type: accuracy}]}]\n"),
        ("videoprefer", "configs:\n- config_name: preference\n  data_files: [{split: train}]\n"),
        ("videorm-h14", "tags: [a\n"),
    ],
)
def test_metadata_that_cannot_be_read_are_errors(name: str, metadata: str, tmp_path: Path) -> None:
    changed = altered(REPOSITORIES[name], tmp_path, "---\nlic", f"---\n{metadata}lic")
    with pytest.raises((ValueError, yaml.YAMLError)):
        cards.find_problems(changed)


@needs_endpoint
def test_the_hub_is_asked(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    assert cards.ask_the_hub(REPOSITORIES["videoprefer"]) == [] and hub.validated == ["dataset"]
    hub.objection = "license is not one of ours"
    (problem,) = cards.ask_the_hub(REPOSITORIES["t2v-mini"])
    assert hub.objection in problem and hub.validated == ["dataset", "model"]


@needs_endpoint
def test_without_a_hub_the_rest_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = altered(REPOSITORIES["t2v-mini"], tmp_path, "# t2v-mini", "# t2v-mini")  # for tables are written
    monkeypatch.setattr(cards, "REPOSITORIES", (copy,))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(cards, "BUILD", tmp_path / "build")
    monkeypatch.setattr("sys.argv", ["cards"])
    with pytest.raises(SystemExit) as end:
        cards.main()
    output = capsys.readouterr().out
    assert end.value.code == 0 and "could not be asked" in output and "t2v-mini: good" in output


def test_the_others_are_rendered_where_one_card_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = altered(REPOSITORIES["t2v-mini"], tmp_path, "---\nlicense", "---\ntags: [a\nlicense")
    monkeypatch.setattr(cards, "REPOSITORIES", (broken, REPOSITORIES["videorm-demo"]))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(cards, "BUILD", tmp_path / "build")
    monkeypatch.setattr("sys.argv", ["cards"])
    with pytest.raises(SystemExit) as end:
        cards.main()
    assert end.value.code == 1 and "t2v-mini: " in capsys.readouterr().out
    assert {page.name for page in (tmp_path / "build").iterdir()} == {"videorm-demo.html", "index.html"}


def test_a_card_without_metadata_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="does not begin with metadata"):
        cards.load(dataclasses.replace(REPOSITORIES["t2v-mini"], folder=tmp_path))


ENTRY = {
    "row": "dimension",
    "measure": "pairwise accuracy",
    "unit": "share",
    "count": "pairs",
    "rows": {"prompt following": {"value": 0.912, "low": 0.9, "high": 0.923, "n": 1200, "ties_wrong": 0.9}},
}


def test_what_was_measured_stands_in_the_table_and_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.table("miniature_videorm_mini") == "Not measured yet." and tables.videorm_mini_results() == []
    (tmp_path / "miniature.json").write_text(json.dumps({"tables": {"videorm_mini": ENTRY}}))
    table = tables.table("miniature_videorm_mini")
    assert re.search(r"\| prompt following +\| 91\.2% +\| 90\.0% to 92\.3% +\| 90\.0% +\| +1200 \|", table)
    assert tables.table("miniature_t2v_mini") == "Not measured yet."
    card = ModelCard(cards.completed(REPOSITORIES["videorm-mini"]))
    assert table in card.text and card.data.model_name == "videorm-mini"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.912)
    assert result.metric_args == {"interval": [0.9, 0.923], "pairs": 1200}


def test_numbers_stand_as_they_are() -> None:
    row = {"value": -0.25, "low": -0.3, "high": -0.2, "n": 64}
    table = tables.interval_table({**ENTRY, "unit": "number", "measure": "mean reward", "rows": {"blur": row}})
    assert "-0.250" in table and "-0.300 to -0.200" in table and "tied" not in table


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError, match="no table is called 'ghosts'"):
        tables.table("ghosts")


def test_the_organisation_takes_its_place() -> None:
    text = "huggingface.co/ORG/videorm-h14, datasets/ORG/videoprefer, hf-hub:ORG/NAME, MYORG/videorm-h14"
    expected = "huggingface.co/us/videorm-h14, datasets/us/videoprefer, hf-hub:ORG/NAME, MYORG/videorm-h14"
    assert cards.for_organisation(text, "us") == expected


def test_pages_are_rendered(tmp_path: Path) -> None:
    cards.render(tmp_path)
    for repository in cards.REPOSITORIES:
        page = (tmp_path / f"{repository.name}.html").read_text(encoding="utf-8")
        assert "<h1>" in page and f'href="{repository.name}.html"' in page
        if repository.kind != "space":
            assert "<table>" in page and "<dt>license</dt>" in page
        if repository.kind == "dataset":
            assert "10K&lt;n&lt;100K" in page
    assert "<li>" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_unpublished_weights_and_data_are_said_to_be() -> None:
    for name in ("videorm-h14", "draftv-modelscope-lora", "videoprefer"):
        assert "not published yet" in REPOSITORIES[name].card.read_text(encoding="utf-8")
    card = DatasetCard.load(REPOSITORIES["videoprefer"].card)
    assert "configs" not in card.data.to_dict()  # they would name files that are not there


def test_the_recipe_of_the_lora_is_valid() -> None:
    recipe = cards.RECIPES / "draftv" / "modelscope.yaml"
    known = {option.removeprefix("--") for option in train.parser()._option_string_actions}
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert settings.keys() <= known


@pytest.mark.parametrize("name", ["videorm-h14", "videoprefer"])
def test_what_a_card_says_of_training_fits_its_recipe(name: str) -> None:
    (line,) = re.findall(r"^videorm train (.+)$", REPOSITORIES[name].card.read_text(encoding="utf-8"), re.MULTILINE)
    words = line.replace("recipe.yaml", str(REPOSITORIES[name].files["recipe.yaml"])).split()
    options, args = parse_options(reward_training_parser(), [*words, "--bf16", "false"])
    assert set(args.dataset_proportions or options.train_data) == set(options.train_data)
    assert options.eval_data == options.train_data


def test_the_pool_on_the_card_is_one(tmp_path: Path) -> None:
    text = REPOSITORIES["videoprefer"].card.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "pool.yaml").write_text(block, encoding="utf-8")
    assert read_pool(tmp_path / "pool.yaml").models[0].name == "modelscope"
