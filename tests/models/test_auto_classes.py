"""Plugging in: a saved VIDEORM loads through transformers' Auto classes, with this package and without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor

from tests.factories import tiny_videorm, tiny_videorm_folder
from videorm_hf import VideoRMConfig, VideoRMModel, VideoRMProcessor, VideoRMVideoProcessor

# A folder on the import path that hides the package, as on a machine where it was never installed.
_HIDE_PACKAGE = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("videorm_hf", "draftv_trainer"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""

_SCORE_WITHOUT_PACKAGE = """
import json, sys
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor

try:
    import videorm_hf
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("videorm_hf can be imported: this test shows nothing")

folder, clip = sys.argv[1:]
AutoConfig.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
video_processor = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(text=["a bicycle race", "a cat"], videos=[clip, clip])
assert torch.equal(video_processor([clip, clip])["pixel_values_videos"], inputs["pixel_values_videos"])
with torch.no_grad():
    print(json.dumps({"rewards": model(**inputs).rewards.tolist(), "module": type(model).__module__}))
"""


def score_with_package(folder: Path, clip: Path) -> list[float]:
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        return model(**processor(text=["a bicycle race", "a cat"], videos=[clip, clip])).rewards.tolist()


def test_auto_classes_give_our_classes(videorm_folder):
    assert isinstance(AutoConfig.from_pretrained(videorm_folder), VideoRMConfig)
    assert isinstance(AutoModel.from_pretrained(videorm_folder), VideoRMModel)
    assert isinstance(AutoProcessor.from_pretrained(videorm_folder), VideoRMProcessor)
    assert isinstance(AutoVideoProcessor.from_pretrained(videorm_folder), VideoRMVideoProcessor)


def test_a_saved_folder_scores_the_same_without_the_package(videorm_folder, real_clips, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(_HIDE_PACKAGE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", _SCORE_WITHOUT_PACKAGE, str(videorm_folder), str(real_clips[1])]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout.splitlines()[-1])
    assert answer["module"].startswith("transformers_modules.")
    assert answer["rewards"] == score_with_package(videorm_folder, real_clips[1])


def test_saving_a_loaded_model_keeps_it_complete(videorm_folder, real_clips, tmp_path):
    # Load and save again, as training does: code, weights and processor all travel on.
    AutoModel.from_pretrained(videorm_folder).save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(videorm_folder).save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.glob("*.py")} == {file.name for file in videorm_folder.glob("*.py")}
    assert score_with_package(tmp_path, real_clips[0]) == score_with_package(videorm_folder, real_clips[0])


def test_every_head_survives_the_round_trip(tmp_path, real_clips):
    rewards = set()
    for temporal_head in ("transformer", "conv1d", "lstm", "mean"):
        overrides = {"temporal_head": temporal_head, "open_gate": temporal_head != "mean"}
        folder, model = tiny_videorm_folder(tmp_path / temporal_head, **overrides), tiny_videorm(**overrides)
        inputs = AutoProcessor.from_pretrained(folder)(text=["a"], videos=[real_clips[0]])
        with torch.no_grad():
            expected = model(**inputs).rewards
            torch.testing.assert_close(AutoModel.from_pretrained(folder)(**inputs).rewards, expected)
        rewards.add(expected.item())
    assert len(rewards) == 4
