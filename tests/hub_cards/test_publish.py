"""Publishing: a dry run asks the network for nothing and names exactly what a real upload then sends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hub_cards import publish
from hub_cards.cards import CLASSES, REPOSITORIES, ROOT, Repository
from tests.hub_cards.hub_server import HubServer
from tests.videoprefer.factories import working_folder
from videorm_hf.videoprefer.builder import VideoPreferConfig
from videorm_hf.videoprefer.export import export_to_hub_layout

BY_NAME = {repository.name: repository for repository in REPOSITORIES}
# Everything that leaves an interpreter passes one of these events.
WITHOUT_NETWORK = """
import runpy, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise OSError(f"the network was asked: {event} {arguments[1:]}")
sys.addaudithook(refuse)
sys.argv = ["publish", *sys.argv[1:]]
runpy.run_module("hub_cards.publish", run_name="__main__")
"""


def run_without_network(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_none"}
    command = [sys.executable, "-c", WITHOUT_NETWORK, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_dry_run_asks_the_network_for_nothing() -> None:
    done = run_without_network("us", "--dry-run")
    assert done.returncode == 0, done.stderr
    for repository in REPOSITORIES:
        assert f"{repository.kind} us/{repository.name}\n" in done.stdout
    assert re.search(r"[\d,]+  recipe.yaml\n", done.stdout) and "nothing was uploaded" in done.stdout
    # The same without --dry-run is stopped at its first request: the hook would have seen one.
    done = run_without_network("us", "--only", "t2v-mini")
    assert done.returncode != 0 and "the network was asked" in done.stderr


@pytest.mark.parametrize("name", ["videorm-h14", "videorm-demo"])
def test_what_is_shown_is_what_is_sent(name: str, hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    repository = BY_NAME[name]
    uploads = publish.make_uploads(repository, "us")
    publish.show(repository, "us", uploads)
    address = publish.upload(repository, "us", uploads, HfApi(endpoint=hub.url, token="hf_none"))
    assert address.endswith(f"us/{name}")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(" ")]
    shown = {path: int(size.replace(",", "")) for size, path in lines[:-1]}
    sent = hub.files[f"{repository.kind}s/us/{name}"]
    assert shown == {path: len(content) for path, content in sent.items()} and "README.md" in sent
    (created,) = hub.created
    assert (created["organization"], created["name"], created["type"]) == ("us", name, repository.kind)
    assert created.get("sdk") == ("gradio" if repository.kind == "space" else None)
    assert hub.validated == [repository.kind]


def publish_now(monkeypatch: pytest.MonkeyPatch, hub: HubServer, *words: str) -> None:
    """Run the command against the Hub of the test."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr(publish, "HfApi", lambda: HfApi(endpoint=hub.url, token="hf_none"))
    monkeypatch.setattr("sys.argv", ["publish", "us", *words])
    publish.main()


def test_a_card_without_weights_does_not_replace_that_of_released_ones(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--only", "t2v-mini", "videorm-h14")
    publish_now(monkeypatch, hub, *words)  # not there yet, then there without weights
    publish_now(monkeypatch, hub, *words)
    artifact = ("--artifact", f"videorm-h14={trained_folder(tmp_path / 'trained', 'videorm-h14')}")
    publish_now(monkeypatch, hub, *words, *artifact)
    hub.files["models/us/t2v-mini"].clear()
    with pytest.raises(SystemExit) as end:
        publish_now(monkeypatch, hub, *words)
    assert end.value.code == 2 and "us/videorm-h14 holds model.safetensors" in capsys.readouterr().err
    assert hub.files["models/us/t2v-mini"] == {}  # refused before anything is sent
    publish_now(monkeypatch, hub, *words, *artifact)
    assert "none have been trained" not in hub.files["models/us/videorm-h14"]["README.md"].decode()


def test_the_card_names_the_organisation() -> None:
    text = publish.card(BY_NAME["videorm-mini"], "us")
    assert 'from_pretrained("us/videorm-mini")' in text and "ORG/" not in text


def test_shipped_weights_go_up_with_the_projects_card() -> None:
    for name in ("videorm-mini", "t2v-mini"):
        uploads = {upload.path_in_repo: upload for upload in publish.make_uploads(BY_NAME[name], "us")}
        assert any(path.endswith(".safetensors") for path in uploads) and "LICENSE" in uploads
        with uploads["README.md"].as_file() as file:
            assert f"# {name}" in file.read().decode()


def test_what_a_working_copy_holds_besides_stays(tmp_path: Path) -> None:
    stray = ("votes.sqlite3", "__pycache__/app.pyc", "arena_data/served/exports/arena-votes.zip", "study/clip.mp4")
    for name in ("app.py", "templates/page.html", *stray):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "README.md").write_text(BY_NAME["videorm-demo"].card.read_text(encoding="utf-8"), encoding="utf-8")
    space = Repository("videorm-demo", "space", tmp_path)
    assert [upload.path_in_repo for upload in publish.make_uploads(space, "us")] == [
        "README.md",
        "app.py",
        "templates/page.html",
    ]


def trained_folder(folder: Path, name: str) -> Path:
    """What a training leaves: weights and a card, and what it needed itself."""
    of_training = ("checkpoint-8/optimizer.pt", "training_args.bin", "_features/0.safetensors", "runs/x/events.1")
    for file in ("model.safetensors", "unet/checkpoint-shards.json", ".cache/x", *of_training):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("x")
    (folder / "README.md").write_text(f"---\ntags: [mine]\n---\n\n# {name}\n\nTrained.\n", encoding="utf-8")
    return folder


def test_what_only_training_needs_stays_wherever_its_folder_lies(tmp_path: Path) -> None:
    artifact = trained_folder(tmp_path / "runs" / ".cache" / "checkpoint-8", "videorm-h14")
    uploads = publish.make_uploads(BY_NAME["videorm-h14"], "us", artifact)
    expected = ["README.md", "model.safetensors", "recipe.yaml", "unet/checkpoint-shards.json"]
    assert [upload.path_in_repo for upload in uploads] == expected


DENIAL = re.compile(r"not published yet|once it is published|no (weights|data) were|when they are|in their place")


@pytest.mark.parametrize("name", ["videorm-h14", "draftv-modelscope-lora", "videoprefer"])
def test_what_is_released_does_not_deny_itself(name: str, tmp_path: Path) -> None:
    repository, artifact = BY_NAME[name], trained_folder(tmp_path, name)
    (artifact / "statistics.json").write_text('{"items": 6}', encoding="utf-8")
    assert DENIAL.search(publish.card(repository, "us"))
    released = publish.card(repository, "us", artifact)
    assert DENIAL.findall(released) == [] and "Trained." in released


def test_made_data_bring_their_own_facts(tmp_path: Path) -> None:
    folder = working_folder(tmp_path / "folder", 6)
    config = VideoPreferConfig(name="preference", data_dir=str(folder), fractions={"train": 1.0}, num_workers=0)
    export_to_hub_layout(config, tmp_path / "data", progress=False)
    uploads = publish.make_uploads(BY_NAME["videoprefer"], "us", tmp_path / "data")
    paths = [upload.path_in_repo for upload in uploads]
    assert "preference/train-00000.parquet" in paths and "statistics.json" in paths
    card = CLASSES["dataset"](publish.card(BY_NAME["videoprefer"], "us", tmp_path / "data"))
    own = CLASSES["dataset"].load(tmp_path / "data" / "README.md")
    assert card.data.configs == own.data.configs and card.data.annotations_creators == ["machine-generated"]
    assert card.data.size_categories == ["n<1K"]
    assert "6 prompts, 24 videos" in card.text and "### Statistics" in card.text
    assert "not published yet" not in card.text and "## Bias" in card.text


@pytest.mark.parametrize(
    ("num_items", "category"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (14_000, "10K<n<100K")]
)
def test_a_size_has_a_category(num_items: int, category: str) -> None:
    assert publish.size_category(num_items) == category


@pytest.mark.parametrize("words", ["videorm-h14", "ghosts=.", "videorm-h14="])
def test_wrong_artifacts_are_errors(words: str) -> None:
    with pytest.raises(ValueError, match="takes NAME=FOLDER"):
        publish.read_artifacts([words], BY_NAME)


def test_an_artifact_that_is_not_published_is_an_error() -> None:
    with pytest.raises(ValueError, match="names videorm-h14, which --only leaves out"):
        publish.read_artifacts(["videorm-h14=folder"], ["t2v-mini"])


def test_an_unfinished_artifact_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no README.md"):
        publish.read_artifacts([f"videorm-h14={tmp_path}"], BY_NAME)
    with pytest.raises(FileNotFoundError, match="holds the files of t2v-mini"):
        publish.make_uploads(Repository("t2v-mini", "model", BY_NAME["t2v-mini"].folder, tmp_path / "none"), "us")
