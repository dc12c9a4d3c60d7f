"""The command line of the Space, and its card."""

import ast
import socket
import sys
from pathlib import Path

import app
import gradio
import pytest
import torch
from huggingface_hub import SpaceCard
from options import check_port, parse_words

from tests.space.conftest import SPACE


def test_it_listens_on_this_machine_only_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    assert parse_words([]).host == "127.0.0.1"
    assert parse_words(["--host", "0.0.0.0"]).host == "0.0.0.0"
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")  # set by the Hub
    assert parse_words([]).host == "0.0.0.0"


@pytest.mark.parametrize("further", [[], ["--tuned", "lora"], ["--pairs", "draftv-comparison"]])
def test_a_pipeline_of_ones_own_needs_its_lora_and_pairs(
    further: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_words(["--base", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", *further])
    assert "--base needs --tuned and --pairs" in capsys.readouterr().err


def test_a_hosted_space_is_told_by_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDEORM_DATA", "")
    assert parse_words([]).data == Path("arena_data")
    for name in ("DATA", "TUNED", "PAIRS"):
        monkeypatch.setenv(f"VIDEORM_{name}", str(tmp_path))
    for name in ("REWARD", "BASE"):
        monkeypatch.setenv(f"VIDEORM_{name}", "us/of-environment")
    monkeypatch.setenv("VIDEORM_DTYPE", "bfloat16")
    words = parse_words([])
    assert (words.data, words.tuned, words.pairs) == (tmp_path,) * 3
    assert (words.reward, words.base, words.dtype) == ("us/of-environment", "us/of-environment", torch.bfloat16)
    words = parse_words(["--data", "study", "--dtype", "float16"])
    assert (words.data, words.dtype) == (Path("study"), torch.float16)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--pairs", "no-folder"], "--pairs must name a folder: got no-folder"),
        (["--tuned", "no-folder"], "--tuned must name a folder: got no-folder"),
        (["--dtype", "int8"], "--dtype must be one of"),
    ],
)
def test_wrong_words_are_errors_at_once(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_words(words)
    assert problem in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused_before_anything_is_prepared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["app.py", "--port", str(port), "--data", str(tmp_path / "data")])
        with pytest.raises(SystemExit) as ended:
            app.main()
    assert ended.value.code == 2 and not (tmp_path / "data").exists()
    said = capsys.readouterr().err
    assert f"cannot listen on port {port} of 127.0.0.1" in said and "in use" in said and said.count("\n") == 1
    check_port("127.0.0.1", port)  # free again


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65536), ("256.0.0.1", 0)])
def test_an_address_that_is_none_is_refused(host: str, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check_port(host, port)
    assert f"port {port} of {host}" in capsys.readouterr().err


def test_the_card_is_a_spaces_card() -> None:
    card = SpaceCard.load(SPACE / "README.md")
    assert (card.data.sdk, card.data.app_file, card.data.license) == ("gradio", "app.py", "apache-2.0")
    assert (SPACE / card.data.app_file).is_file()
    assert card.data.sdk_version.split(".")[0] == gradio.__version__.split(".")[0]
    assert len(card.data.short_description) <= 60  # the Hub's limit
    assert (SPACE / "requirements.txt").read_text(encoding="utf-8").split() == ["videorm-hf[space]"]


@pytest.mark.parametrize("path", sorted(SPACE.glob("*.py")), ids=lambda path: path.name)
def test_nothing_in_the_space_can_execute_or_unpickle_data(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    assert not names & {"eval", "exec", "compile", "pickle", "joblib", "subprocess", "system", "Popen", "importlib"}
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "load"]
    assert not any(isinstance(node.value, ast.Name) and node.value.id in ("torch", "np", "numpy") for node in loads)
