"""What the documentation names exists: command line options, make targets, files behind links."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from draftv_trainer.cli import compare, sample, train
from draftv_trainer.cli.draftv import COMMANDS
from videorm_hf.cli.videoprefer import app as videoprefer
from videorm_hf.cli.videorm import app as videorm

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL_BLOCK = re.compile(r"^```(?:bash|console|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
DRAFTV = {"train": train.parser, "sample": sample.parser, "compare": compare.parser}


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
        named = {word.split("=")[0] for word in words if word.startswith("--")}
        assert named <= known, f"`{program} {name}` has no {', '.join(sorted(named - known))}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_documented_option_of_draftv_exists(document: Path) -> None:
    for _, name, *words in commands_of(document, "draftv"):
        if name.startswith("--"):
            continue
        assert name in DRAFTV, f"`draftv {name}` does not exist"
        known = {"--config", *DRAFTV[name]()._option_string_actions}
        named = {word.split("=")[0] for word in words if word.startswith("--")}
        assert named <= known, f"`draftv {name}` has no {', '.join(sorted(named - known))}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_documented_setting_of_draftv_train_exists(document: Path) -> None:
    known = {option.removeprefix("--") for option in train.parser()._option_string_actions}
    for block in YAML_BLOCK.findall(document.read_text(encoding="utf-8")):
        settings = yaml.safe_load(block)
        if "model_name_or_path" in settings:
            assert settings.keys() <= known, f"`draftv train` has no {', '.join(sorted(settings.keys() - known))}"


def test_draftv_lists_the_commands_that_there_are() -> None:
    assert COMMANDS.keys() == DRAFTV.keys()


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
