"""Every line of the documentation's shell blocks runs here with tiny models, or has a reason why it cannot."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from draftv_trainer import DRaFTVTrainer
from draftv_trainer.cli.draftv import main as draftv
from tests.docs.snippets import MODEL, PIPELINE, documented_files, find_clip  # noqa: F401
from tests.docs.test_documents import DOCUMENTS, SHELL_BLOCK, name_of
from tests.draftv.factories import redness, tiny_args, tiny_wan
from videorm_hf.cli.videorm import app as videorm
from videorm_hf.miniature.shipped import T2V_MINI

# What a line looks like, and why it is not run. `test_documents.py` checks commands and options of these, too.
NOT_RUN = {
    r"^(git|pip|make|cd|\.venv/bin/pre-commit) ": "sets up a machine: CI and `make` do it",
    r"^(accelerate|torchrun) |--num_processes": "starts several processes: tests/draftv/test_processes.py",
    r"^hf download ": "published checkpoints",
    r"^python -m videorm_hf.miniature.judge_server": "a server without end: tests/miniature/test_judge_server.py",
    r"^transformers serve": "downloads a judge: tests/annotation/test_local_judge.py serves a tiny one",
    r"^python docs/examples/": "a script: tests/docs/test_examples.py runs each",
    r"^python hub_cards/spaces/videorm-demo/app\.py ": "the Space, a server that does not end: its tests start it",
    r"^videorm convert ": "published checkpoints: tests/cli/test_convert.py and tests/models/test_conversion.py",
    r"^videorm train ": "recipes of full size: tests/cli/test_train.py",
    r"^videorm (evaluate|best-of-n) ": "labelled sets: tests/cli/test_evaluate.py, test_best_of_n.py",
    r"^videoprefer (collect|generate) ": "prompt sets and pools: tests/videoprefer/test_collect.py, test_generate.py",
    r"^videoprefer (annotate|agree|sweep) ": "a judge's server, people: tests/cli/test_annotate.py, test_agree.py",
    r"^videoprefer (build|stats|export|push) ": "a rated folder: tests/cli/test_videoprefer_dataset.py",
    r"hps_v2(\.1)?:|ViT-H-14:": "published weights: tests/rewards/test_loading.py",
}
OWN_REWARDS = "def {name}(frames, prompts):\n    return -frames.diff(dim=1).abs().mean(dim=(1, 2, 3, 4))\n"
RUN = {"model_name_or_path": PIPELINE, "reward_funcs": MODEL, "prompts": "prompts.txt", "output_dir": "wan-lora-run"}
RUN |= {"num_backprop_steps": 1, "num_inference_steps": 2, "height": 16, "width": 16, "num_frames": 5, "max_steps": 1}


def lines_of(document: Path) -> list[str]:
    blocks = SHELL_BLOCK.findall(document.read_text(encoding="utf-8"))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [stripped for line in lines if (stripped := line.strip().removeprefix("$ ")) and stripped[0] != "#"]


def reason_not_to_run(line: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, line)), None)


PAGES = [document for document in DOCUMENTS if "hub_cards" not in document.parts]  # cards name what will be on the Hub
LINES = {line: document for document in PAGES for line in lines_of(document)}
TO_RUN = [line for line in LINES if reason_not_to_run(line) is None]


@pytest.fixture(scope="module")
def folder(documented_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """All that the lines name: models, LoRAs, clips, prompts, a run's settings, and rewards of one's own."""
    folder = tmp_path_factory.mktemp("shell") / "files"
    shutil.copytree(documented_files, folder)
    shutil.copytree(folder / MODEL, folder / "my-reward")
    mini = {"height": 32, "width": 32, "num_frames": 8, "pipeline_kwargs": None}  # what t2v-mini makes
    for name, pipe, sizes in (("wan-lora", tiny_wan(), {}), ("mini-lora", str(T2V_MINI), mini)):
        lora = DRaFTVTrainer(pipe, redness, tiny_args(folder / name, max_steps=1, **sizes), ["a dog", "a cat"])
        lora.train()
        lora.save_model()
    for name in ("wan-lora-k1", "wan-lora-k10"):
        shutil.copytree(folder / "wan-lora", folder / name)
    for name in ("b.gif", "c.webm"):  # files are known by their content
        shutil.copy(find_clip("bikes.mp4"), folder / name)
    for name in ("clips", "candidates"):
        (folder / name).mkdir()
        for clip in ("a.mp4", "b.mp4"):
            shutil.copy(folder / clip, folder / name / clip)
    for name in ("prompts.txt", "kept-aside.txt"):
        (folder / name).write_text("a dog runs\na red circle moves right\n")
    (folder / "run.yaml").write_text(yaml.safe_dump(RUN))
    for module, name in (("my_rewards", "looping"), ("rewards", "motion")):
        (folder / f"{module}.py").write_text(OWN_REWARDS.format(name=name))
    return folder


def test_every_line_is_of_a_known_program() -> None:
    assert {shlex.split(line)[0] for line in TO_RUN} == {"videorm", "draftv"}
    assert len(TO_RUN) > 12
    unused = [pattern for pattern in NOT_RUN if not any(re.search(pattern, line) for line in LINES)]
    assert unused == []  # a reason that no line needs is to be removed


@pytest.mark.parametrize("line", TO_RUN, ids=lambda line: f"{name_of(LINES[line])}: {line[:60]}")
def test_a_line_runs(line: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in ("my_rewards", "rewards"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    program, *words = shlex.split(line, comments=True)
    if program == "draftv":
        assert draftv(words) == 0
        return
    result = CliRunner().invoke(videorm, [*words, "--num-workers", "0"])
    assert result.exit_code == 0, result.output
