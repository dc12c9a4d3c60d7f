"""What the documentation names exists: command line options, make targets, files behind links."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from draftv_trainer.cli import compare, sample, train
from draftv_trainer.cli.draftv import COMMANDS
from videorm_hf.cli import train as train_reward
from videorm_hf.cli.videoprefer import app as videoprefer
from videorm_hf.cli.videorm import app as videorm
from videorm_hf.videoprefer.model_pool import read_pool

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
DOCUMENTS = [*PAGES, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "hub_cards").rglob("README.md"))]
SHELL_BLOCK = re.compile(r"^```(?:bash|console|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
JSON_BLOCK = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON_BLOCK_NOT_RUN = re.compile(r"^```python notest\n(.*?)\n", re.MULTILINE)
YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
DRAFTV = {"train": train.parser, "sample": sample.parser, "compare": compare.parser}
DEMO = ROOT / "src" / "draftv_trainer" / "cli" / "demo.py"  # its parser is its own, with two options


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def commands_of(document: Path, program: str) -> list[list[str]]:
    blocks = SHELL_BLOCK.findall(document.read_text(encoding="utf-8"))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line.strip().removeprefix("$ "), comments=True) for line in lines]
    commands = [words[words.index(program) :] for words in commands if program in words]
    return [words for words in commands if len(words) > 1]


@pytest.mark.parametrize("program", ["videorm", "videoprefer"])
@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_documented_option_exists(document: Path, program: str) -> None:
    subcommands = typer.main.get_command({"videorm": videorm, "videoprefer": videoprefer}[program]).commands
    for _, name, *words in commands_of(document, program):
        if name.startswith("--"):
            continue
        assert name in subcommands, f"`{program} {name}` does not exist"
        known = {"--help", *(option for parameter in subcommands[name].params for option in parameter.opts)}
        known |= {option for parameter in subcommands[name].params for option in parameter.secondary_opts}
        if (program, name) == ("videorm", "train"):  # its words go on to TRL's parser
            known |= set(train_reward.parser()._option_string_actions)
        named = {word.split("=")[0] for word in words if word.startswith("--")}
        assert named <= known, f"`{program} {name}` has no {', '.join(sorted(named - known))}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_documented_option_of_draftv_exists(document: Path) -> None:
    for _, name, *words in commands_of(document, "draftv"):
        if name.startswith("--"):
            continue
        assert name in COMMANDS, f"`draftv {name}` does not exist"
        if name in DRAFTV:
            known = {"--config", *DRAFTV[name]()._option_string_actions}
        else:
            known = set(re.findall(r'add_argument\("(--\w+)"', DEMO.read_text(encoding="utf-8")))
        named = {word.split("=")[0] for word in words if word.startswith("--")}
        assert named <= known, f"`draftv {name}` has no {', '.join(sorted(named - known))}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_documented_setting_of_draftv_train_exists(document: Path) -> None:
    for block in YAML_BLOCK.findall(document.read_text(encoding="utf-8")):
        settings = yaml.safe_load(block)
        if "model_name_or_path" in settings:
            known = {option.removeprefix("--") for option in train.parser()._option_string_actions}
            assert settings.keys() <= known, f"`draftv train` has no {', '.join(sorted(settings.keys() - known))}"


def test_draftv_lists_the_commands_that_there_are() -> None:
    assert COMMANDS.keys() == {*DRAFTV, "demo"}


def test_the_readme_shows_commands() -> None:
    assert {words[1] for words in commands_of(ROOT / "README.md", "videorm")} >= {"score", "convert"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_named_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`make ([a-z-]+)`", text)
    named += re.findall(r"^make ([a-z-]+)", "\n".join(SHELL_BLOCK.findall(text)), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    files = [link for link in links if "://" not in link]
    missing = [link for link in files if not (document.parent / link).exists()]
    assert not missing


# Packages whose names are the public interface; each name is in the reference, under the file it comes from.
PUBLIC = ["videorm_hf", "videorm_hf.rewards", "videorm_hf.scoring", "videorm_hf.annotation", "videorm_hf.trainer"]
PUBLIC += ["videorm_hf.benchmarks", "draftv_trainer"]


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    module = importlib.import_module(package)
    classes_and_functions = [vars(module).get(name) or getattr(module, name) for name in module.__all__]
    sources = {thing.__module__ for thing in classes_and_functions if hasattr(thing, "__qualname__")}
    # What is a type alias in one package is documented with the functions that take it.
    assert {source for source in sources if source.startswith(("videorm_hf", "draftv_trainer"))} <= shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_json_block_can_be_read(document: Path) -> None:
    for block in JSON_BLOCK.findall(document.read_text(encoding="utf-8")):
        assert json.loads(block), block


def test_the_documented_pools_can_be_read(tmp_path: Path) -> None:
    pools = YAML_BLOCK.findall((ROOT / "docs" / "guides" / "collect_generate.md").read_text(encoding="utf-8"))
    names = []
    for pool in pools:
        # The page shows two models and says that there must be more, or repetitions.
        text = pool.replace("repeat_models: false", "repeat_models: true")
        (tmp_path / "pool.yaml").write_text(text, encoding="utf-8")
        names.append([model.name for model in read_pool(tmp_path / "pool.yaml").models])
    assert names == [["modelscope", "latte"], ["t2v-mini"]]


def test_every_guide_is_in_the_navigation_and_on_the_first_page() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    first_page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    guides = [guide.relative_to(ROOT / "docs").as_posix() for guide in (ROOT / "docs" / "guides").glob("*.md")]
    assert [guide for guide in guides if f": {guide}" not in navigation or f"({guide}" not in first_page] == []


def test_every_recipe_is_documented() -> None:
    page = (ROOT / "docs" / "guides" / "recipes.md").read_text(encoding="utf-8")
    folder = ROOT / "docs" / "recipes"
    recipes = [recipe.relative_to(folder).as_posix() for recipe in folder.rglob("*.yaml")]
    assert recipes and [recipe for recipe in recipes if f"`{recipe}`" not in page] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_python_block_that_is_not_run_says_why(document: Path) -> None:
    first_lines = PYTHON_BLOCK_NOT_RUN.findall(document.read_text(encoding="utf-8"))
    assert [line for line in first_lines if not re.match(r"# Not run .*: it needs", line)] == []


def test_every_file_and_test_that_the_paper_index_names_exists() -> None:
    text = (ROOT / "docs" / "paper_index.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:[\w.-]+/)*test_\w+\.py)(?:::(\w+))?`", text)
    assert len(named) > 30
    for path, test in named:
        found = list((ROOT / "tests").rglob(path)) if "/" not in path else [ROOT / "tests" / path]
        assert found and all(file.is_file() for file in found), path
        assert not test or f"def {test}(" in found[0].read_text(encoding="utf-8"), test
    files = re.findall(r"`((?:videorm_hf|draftv_trainer|docs|benchmarks)/[\w./-]*)`", text)
    roots = {True: ROOT / "src", False: ROOT}
    files = [name for name in files if "/test_" not in name]
    assert [name for name in files if not (roots[name.startswith(("videorm_hf", "draftv"))] / name).exists()] == []
