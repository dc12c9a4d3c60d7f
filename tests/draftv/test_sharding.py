"""A denoiser divided over two processes: the same gradients, half of the weights on each, the LoRA saved whole."""

import json

import pytest
import torch
from safetensors.torch import load_file

from draftv_trainer import DRaFTVTrainer
from draftv_trainer.lora import LORA_WEIGHTS_NAME
from draftv_trainer.sharding import denoiser_blocks
from tests.draftv.factories import lora_weights, redness, tiny_args, tiny_wan
from tests.draftv.pipeline_factories import tiny_pipeline
from tests.processes import run_in_two_processes

DATA = ["a red dog runs", "a blue cat", "a green bird jumps", "a circle falls"]
# Plain gradient descent at this rate: the weights after a step show the gradients of it.
SETTINGS = {"max_steps": 2, "optim": "sgd", "learning_rate": 100.0, "max_grad_norm": 0.0}
TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch
from accelerate.utils import model_has_dtensor
from torch.distributed.tensor import DTensor
from draftv_trainer import DRaFTVTrainer
from tests.draftv.factories import lora_weights, redness, tiny_args, tiny_wan
from tests.draftv.test_sharding import DATA, SETTINGS

torch.distributed.init_process_group("gloo")
for checkpointing in sys.argv[2:]:
    args = tiny_args(
        Path(sys.argv[1], checkpointing), per_device_train_batch_size=1, per_device_eval_batch_size=1,
        checkpointing=checkpointing, shard_denoiser=True, **SETTINGS
    )
    run = DRaFTVTrainer(model=tiny_wan(), reward_funcs=redness, args=args, train_dataset=DATA, eval_dataset=DATA)
    assert not model_has_dtensor(run.model)  # which accelerate would refuse on GPUs
    run.train()
    run.save_model()
    frozen = [weight for weight in run.pipe.transformer.parameters() if not weight.requires_grad]
    local = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in frozen]
    facts = {
        "weights": {name: weight.flatten().tolist() for name, weight in lora_weights(run.pipe).items()},
        "eval_reward": run.evaluate()["eval_reward"],
        "local": sum(weight.numel() for weight in local),
        "whole": sum(weight.numel() for weight in frozen),
    }
    Path(sys.argv[1], checkpointing, f"rank{args.process_index}.json").write_text(json.dumps(facts))
"""


@pytest.mark.slow
def test_two_processes_train_as_one_that_holds_all(tmp_path):
    modes = ("none", "block", "step", "nested")
    run_in_two_processes(TWO_PROCESSES, tmp_path, *modes)
    one = DRaFTVTrainer(tiny_wan(), redness, tiny_args(tmp_path / "one", **SETTINGS), DATA, eval_dataset=DATA)
    start = lora_weights(one.pipe)
    one.train()
    expected = lora_weights(one.pipe)
    eval_reward = one.evaluate()["eval_reward"]
    for mode in modes:
        first, second = (json.loads((tmp_path / mode / f"rank{rank}.json").read_text()) for rank in (0, 1))
        assert first["weights"] == second["weights"]
        for name, weight in expected.items():
            moved = (weight - start[name]).abs().max()
            assert moved > 0, name
            difference = (weight.flatten() - torch.tensor(first["weights"][name])).abs().max()
            assert difference < 1e-6 * SETTINGS["learning_rate"], (mode, name)
        assert first["eval_reward"] == pytest.approx(eval_reward, abs=1e-6)
        for facts in (first, second):
            assert 0.4 < facts["local"] / facts["whole"] < 0.6
        saved = load_file(tmp_path / mode / LORA_WEIGHTS_NAME)
        by_name = {name.replace(".default.", "."): torch.tensor(value) for name, value in first["weights"].items()}
        assert saved.keys() == {f"transformer.{name}" for name in by_name}
        assert all(torch.equal(saved[f"transformer.{name}"].flatten(), value) for name, value in by_name.items())


@pytest.mark.parametrize("name", ["wan", "modelscope", "mochi"])
def test_the_blocks_hold_most_weights(name):
    pipe = tiny_pipeline(name)
    denoiser = pipe.components.get("transformer") or pipe.unet
    blocks = denoiser_blocks(denoiser)
    assert len(blocks) >= 2
    inside = sum(weight.numel() for block in blocks for weight in block.parameters())
    assert inside > 0.5 * sum(weight.numel() for weight in denoiser.parameters())


def test_one_process_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="shard_denoiser needs several processes: got 1"):
        DRaFTVTrainer(tiny_wan(), redness, tiny_args(tmp_path, shard_denoiser=True), DATA)
