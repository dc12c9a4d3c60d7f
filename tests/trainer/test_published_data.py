"""Both views of a published VIDEOPREFER train, in each layout that has the views' columns."""

import pytest
from datasets import load_dataset

from tests.cli.test_train import working_folder
from tests.trainer.factories import changed, small_trainer, weights
from videorm_hf.videoprefer.builder import VideoPreferConfig
from videorm_hf.videoprefer.export import export_to_hub_layout


@pytest.mark.parametrize("layout", ["parquet", "files"])
def test_both_views_of_a_published_folder_train_alike(tmp_path, layout):
    config = VideoPreferConfig(
        data_dir=str(working_folder(tmp_path / "working", 4)), fractions={"train": 1.0}, num_workers=0
    )
    export_to_hub_layout(config, tmp_path / "published", layout, progress=False)
    losses = {}
    for view, rows in (("ratings", 4), ("preference", 24)):
        data = load_dataset(str(tmp_path / "published"), view, split="train", cache_dir=str(tmp_path / "cache"))
        trainer = small_trainer(
            tmp_path / view, data, eval_dataset=data, per_device_train_batch_size=rows, max_steps=1
        )
        assert len(trainer.train_dataset) == rows
        before = weights(trainer)
        trainer.train()
        assert trainer.bad_clips == {} and changed(before, weights(trainer))
        metrics = trainer.evaluate()
        assert metrics["eval_num_pairs"] == 24
        losses[view] = (trainer.state.log_history[0]["loss"], metrics["eval_loss"])
    assert losses["ratings"] == pytest.approx(losses["preference"], abs=1e-5)
