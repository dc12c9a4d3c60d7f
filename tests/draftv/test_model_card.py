"""The model card: facts of the run, how to load the LoRA, and what a push to the Hub would upload."""

import json

import pytest
from huggingface_hub import ModelCard

from draftv_trainer.draftv_trainer import DRaFTVTrainer
from draftv_trainer.lora import LORA_WEIGHTS_NAME
from draftv_trainer.model_card import CARD_NAME, FACTS_NAME, reads_own_lora, write_card
from tests.draftv.factories import motion, redness, tiny_args, tiny_wan
from tests.draftv.pipeline_factories import tiny_mochi, tiny_modelscope

DATA = ["a red dog runs", "a blue cat"]
FILES = sorted([CARD_NAME, FACTS_NAME, LORA_WEIGHTS_NAME])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    args = tiny_args(
        tmp_path_factory.mktemp("run"), reward_weights=[2.0, 0.0], ema_decay=0.9, seed=7, gradient_accumulation_steps=2
    )
    trainer = DRaFTVTrainer(tiny_wan(), [redness, motion], args, train_dataset=DATA)
    trainer.train()
    return trainer


def test_the_facts_are_the_runs(run, tmp_path):
    run.save_model(str(tmp_path / "my-lora"))
    assert sorted(path.name for path in (tmp_path / "my-lora").iterdir()) == FILES
    facts = json.loads((tmp_path / "my-lora" / FACTS_NAME).read_text())
    rewards = [entry["reward"] for entry in run.state.log_history if "reward" in entry]
    assert facts["rewards"] == {"redness": 2.0, "motion": 0.0}
    assert facts["reward"] == {"first": rewards[0], "last": rewards[-1]}
    assert facts["training"] == {
        "steps": 3,
        "videos_per_step": 4,
        "learning_rate": 0.01,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch_fused",
        "ema_decay": 0.9,
        "seed": 7,
    }
    assert facts["lora"]["rank"] == 4 and facts["lora"]["target_modules"] == ["to_k", "to_out.0", "to_q", "to_v"]
    assert facts["sampling"]["num_backprop_steps"] == 2
    assert (facts["sampling"]["dtype"], facts["sampling"]["fps"]) == ("float32", 8)
    assert facts["sampling"]["pipeline_kwargs"]["height"] == 16
    assert set(facts["versions"]) == {"videorm-hf", "torch", "transformers", "diffusers", "peft"}
    card = ModelCard.load(tmp_path / "my-lora" / CARD_NAME)
    assert card.data.library_name == "diffusers" and card.data.pipeline_tag == "text-to-video"
    assert card.data.base_model is None
    assert card.text.strip().startswith("# my-lora")
    for expected in ("| reward `redness`, weight | 2.0 |", f"{rewards[-1]:.4g} |", "| `num_backprop_steps` | 2 |"):
        assert expected in card.text
    assert 'pipe.load_lora_weights("my-lora")' in card.text
    everything = (tmp_path / "my-lora" / CARD_NAME).read_text() + json.dumps(facts)
    assert str(tmp_path) not in everything and run.args.output_dir not in everything


def test_create_model_card_takes_trainers_arguments(run, tmp_path):
    run.create_model_card(license="mit", tags="wan", model_name="Red dogs", dataset="someone/prompts", tasks="ignored")
    card = ModelCard.load(f"{run.args.output_dir}/{CARD_NAME}")
    assert card.data.license == "mit" and card.data.datasets == ["someone/prompts"]
    assert card.data.tags == ["text-to-video", "lora", "draft-v", "wan"]
    assert "# Red dogs" in card.text


def test_a_base_model_of_the_hub_is_linked_and_one_without_loader_is_loaded_by_us(run, tmp_path):
    run.save_model(str(tmp_path))
    facts = json.loads((tmp_path / FACTS_NAME).read_text())
    write_card(tmp_path, {**facts, "base_model": "org/video"}, own_loader=False, repo_id="me/lora")
    card = ModelCard.load(tmp_path / CARD_NAME)
    assert card.data.base_model == "org/video"
    assert "[org/video](https://huggingface.co/org/video)" in card.text
    assert 'WanPipeline.from_pretrained("org/video")' in card.text
    assert 'load_lora(pipe, snapshot_download("me/lora"), scale=1.0)' in card.text
    assert "load_lora_weights" not in card.text


def test_who_reads_the_lora():
    wan, mochi, modelscope = tiny_wan(), tiny_mochi(), tiny_modelscope()
    assert reads_own_lora(wan, wan.transformer) and reads_own_lora(mochi, mochi.transformer)
    # Its denoiser takes no adapters, so that its pipeline's loader raises.
    assert not reads_own_lora(modelscope, modelscope.unet)


def test_a_push_would_upload_lora_card_and_facts_only(tmp_path):
    """Nothing is uploaded here: Trainer's push calls save_model and create_model_card, then uploads this folder."""
    args = tiny_args(tmp_path, save_strategy="steps", save_steps=2, max_steps=2, hub_model_id="me/red-dogs")
    trainer = DRaFTVTrainer(tiny_wan(), redness, args, train_dataset=DATA)
    trainer.train()
    trainer.hub_model_id = "me/red-dogs"
    trainer.save_model(_internal_call=True)
    trainer.create_model_card(model_name="red-dogs")
    uploaded = [path.name for path in tmp_path.iterdir() if not path.name.startswith(("checkpoint-", "_"))]
    assert sorted(uploaded) == FILES
    assert 'pipe.load_lora_weights("me/red-dogs")' in ModelCard.load(tmp_path / CARD_NAME).text
    assert (tmp_path / "checkpoint-2" / CARD_NAME).is_file()


def test_steps_are_counted_whether_they_were_logged_or_not(tmp_path):
    args = tiny_args(tmp_path, max_steps=3, logging_steps=2)
    trainer = DRaFTVTrainer(tiny_wan(), redness, args, train_dataset=DATA)
    trainer.train()
    trainer.save_model()
    assert json.loads((tmp_path / FACTS_NAME).read_text())["training"]["steps"] == 3
