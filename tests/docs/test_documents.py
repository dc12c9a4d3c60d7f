"""What the documentation names exists: command line options, make targets, files behind links."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from videorm_hf.cli.videorm import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL_BLOCK = re.compile(r"^```(?:bash|console|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def videorm_commands(document: Path) -> list[list[str]]:
    blocks = SHELL_BLOCK.findall(document.read_text(encoding="utf-8"))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line.strip().removeprefix("$ "), comments=True) for line in lines]
    commands = [words[words.index("videorm") :] for words in commands if "videorm" in words]
    return [words for words in commands if len(words) > 1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_documented_option_exists(document: Path) -> None:
    subcommands = typer.main.get_command(app).commands
    for _, name, *words in videorm_commands(document):
        if name.startswith("--"):
            continue
        assert name in subcommands, f"`videorm {name}` does not exist"
        known = {"--help", *(option for parameter in subcommands[name].params for option in parameter.opts)}
        known |= {option for parameter in subcommands[name].params for option in parameter.secondary_opts}
        named = {word.split("=")[0] for word in words if word.startswith("--")}
        assert named <= known, f"`videorm {name}` has no {', '.join(sorted(named - known))}"


def test_the_readme_shows_commands() -> None:
    assert {words[1] for words in videorm_commands(ROOT / "README.md")} >= {"score", "convert"}


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
