"""The paper's variants as configuration, and what is no reward model."""

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from tests.models.blip_factories import tiny_videorm_blip_folder
from tests.rewards.factories import bert_folder
from tests.trainer.factories import (
    changed,
    preference_rows,
    rated_items,
    small_folder,
    small_model,
    small_trainer,
    weights,
)
from videorm_hf import VideoRMBlipModel, VideoRMConfig, VideoRMModel
from videorm_hf.models.videorm.modeling_videorm import VideoRMTemporalConv1d, VideoRMTemporalLSTM
from videorm_hf.trainer.reward_models import choose_trainable, load_reward_model

VIT_H = {
    "projection_dim": 1024,
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "projection_dim": 1024,
    },
}
HEADS = {
    "transformer": {},
    "conv1d": {"temporal_head": "conv1d", "temporal_num_layers": 24},
    "lstm": {"temporal_head": "lstm", "temporal_num_layers": 9},
}


def trainable_parameters(**head):
    with torch.device("meta"):
        model = VideoRMModel(VideoRMConfig(**VIT_H, **head))
    choose_trainable(model, "temporal")
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_the_ablations_heads_have_as_many_trainable_parameters_at_full_size():
    counts = {name: trainable_parameters(**head) for name, head in HEADS.items()}
    assert 75e6 < counts["transformer"] < 76e6  # six layers of 12.6 million
    for count in counts.values():
        assert count == pytest.approx(counts["transformer"], rel=0.005)


def test_a_setting_that_changes_the_head_makes_it_new_and_keeps_the_towers(tmp_path):
    folder = small_folder(tmp_path / "base")
    base = small_model()
    for kwargs, kind in (
        ({"temporal_head": "conv1d"}, VideoRMTemporalConv1d),
        ({"temporal_head": "lstm"}, VideoRMTemporalLSTM),
    ):
        model = load_reward_model(folder, kwargs)
        assert isinstance(model.temporal_head.branch, kind)
        assert not model.temporal_head.gate.any()
    deeper = load_reward_model(folder, {"temporal_num_layers": 3})
    assert len(deeper.temporal_head.branch.layers) == 3 and not deeper.temporal_head.gate.any()
    for made in (model, deeper):
        towers = {name: value for name, value in base.state_dict().items() if "temporal_head" not in name}
        assert changed(towers, made.state_dict()) == set()


def test_a_new_head_is_the_same_for_the_same_seed(tmp_path):
    folder = small_folder(tmp_path / "base")

    def head(seed):
        settings = {"model_init_kwargs": {"temporal_head": "conv1d"}, "seed": seed}
        return weights(small_trainer(tmp_path, model=folder, **settings))

    assert changed(head(0), head(0)) == set()
    assert "temporal_head.branch.layers.0.weight" in changed(head(0), head(1))


@pytest.mark.parametrize("shift", ["block", "residual", "none"])
@pytest.mark.parametrize("padding", ["zero", "replicate"])
def test_shift_placement_and_padding_are_settings(tmp_path, shift, padding):
    kwargs = {"temporal_shift": shift, "temporal_shift_padding": padding}
    trainer = small_trainer(tmp_path, model=small_folder(tmp_path / "base"), model_init_kwargs=kwargs)
    assert trainer.reward_model.temporal_head.gate.any()  # no new head
    assert (trainer.reward_model.config.temporal_shift, trainer.reward_model.config.temporal_shift_padding) == (
        shift,
        padding,
    )
    before = weights(trainer)
    trainer.train()
    assert changed(before, weights(trainer))
    trainer.save_model()
    assert load_reward_model(tmp_path).config.temporal_shift == shift


@pytest.mark.parametrize("num_frames", [1, 4, 8, 12])
def test_any_number_of_frames_trains(tmp_path, num_frames):
    model = small_model(max_frames=12)
    trainer = small_trainer(tmp_path, model=model, num_frames=num_frames)
    before = weights(trainer)
    trainer.train()
    assert changed(before, weights(trainer)) and trainer.reward_model.config.num_frames == num_frames


@pytest.mark.parametrize("head", ["conv1d", "lstm"])
def test_every_weight_of_the_ablations_heads_moves(tmp_path, head):
    trainer = small_trainer(tmp_path, model=small_model(temporal_head=head))
    names = {name for name, p in trainer.reward_model.named_parameters() if p.requires_grad}
    before = weights(trainer)
    trainer.train()
    assert changed(before, weights(trainer)) == names


@pytest.mark.parametrize("settings", [{}, {"trainable": "temporal+last_n_blocks", "num_trainable_blocks": 1}])
def test_image_reward_is_trained_row_by_row(tmp_path, settings):
    folder = tiny_videorm_blip_folder(tmp_path / "blip", bert_folder(tmp_path / "bert"), open_gate=True)
    data = {"v": rated_items(2), "h": preference_rows(2)}
    trainer = small_trainer(
        tmp_path / "run",
        data,
        model=str(folder),
        processing_class=None,
        eval_dataset=rated_items(1),
        num_frames=3,
        **settings,
    )
    names = {name for name, p in trainer.reward_model.named_parameters() if p.requires_grad}
    before = weights(trainer)
    trainer.train()
    assert changed(before, weights(trainer)) == names
    assert trainer.evaluate()["eval_num_pairs"] == 6
    trainer.save_model()
    loaded = load_reward_model(tmp_path / "run")
    assert isinstance(loaded, VideoRMBlipModel) and changed(weights(trainer), loaded.state_dict()) == set()


def test_image_reward_cannot_be_cached(tmp_path):
    folder = tiny_videorm_blip_folder(tmp_path / "blip", bert_folder(tmp_path / "bert"))
    with pytest.raises(ValueError, match="is for a VideoRMModel.*got VideoRMBlipModel"):
        small_trainer(tmp_path, model=str(folder), processing_class=None, num_frames=3, cache_features=True)


def test_another_kind_of_model_is_refused_with_the_way_out(tmp_path):
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    clip = CLIPModel(CLIPConfig(text_config=tower, vision_config=tower, projection_dim=8))
    clip.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'clip' model, which has no temporal head.*videorm convert"):
        load_reward_model(tmp_path)
    with pytest.raises(TypeError, match="got Linear"):
        load_reward_model(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="loaded already"):
        load_reward_model(small_model(), {"temporal_shift": "none"})


def test_a_folder_whose_weights_do_not_fit_its_configuration_is_refused(tmp_path):
    small_model(temporal_head="lstm").save_pretrained(tmp_path)
    small_model().config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="checkpoint of another architecture.*temporal_head.branch"):
        load_reward_model(tmp_path)
