"""Prompts encoded once: equal frames without a text encoder, each prompt encoded once, and clear errors."""

import gc
import weakref

import pytest
import torch

from draftv_trainer import DRaFTVTrainer
from draftv_trainer.prompt_embeds import precompute_prompts
from draftv_trainer.sampling import sample
from tests.draftv.factories import PROMPTS, TINY_SIZE, generators, lora_weights, redness, tiny_args, tiny_wan
from tests.draftv.pipeline_factories import PIPELINES, tiny_pipeline

SETTINGS = {**TINY_SIZE, "negative_prompt": "a cat"}


def draw(pipe, prompts, settings):
    return sample(pipe, prompts, num_inference_steps=2, generator=generators(len(prompts)), **settings)


def test_equal_frames_without_the_text_encoder():
    pipe = tiny_wan()
    expected = [draw(pipe, prompts, SETTINGS) for prompts in (PROMPTS, PROMPTS[::-1], PROMPTS[:1])]
    released = weakref.ref(pipe.text_encoder)
    precompute_prompts(pipe, [*PROMPTS, PROMPTS[0]], SETTINGS)
    gc.collect()
    assert pipe.text_encoder is None
    assert released() is None
    for prompts, frames in zip((PROMPTS, PROMPTS[::-1], PROMPTS[:1]), expected, strict=True):
        torch.testing.assert_close(draw(pipe, prompts, SETTINGS), frames, rtol=0.0, atol=1e-6)


def test_each_prompt_is_encoded_once_and_the_negative_kept_once():
    pipe, texts = tiny_wan(), []
    pipe.text_encoder.register_forward_hook(lambda module, args, output: texts.append(1))
    precompute_prompts(pipe, [*PROMPTS, *PROMPTS], SETTINGS)
    assert len(texts) == 2 * len(PROMPTS)
    (first, second) = pipe.encode_prompt.results.values()
    assert first[0] is not second[0]
    assert first[1] is second[1]


def test_a_prompt_or_an_argument_that_was_not_encoded():
    pipe = tiny_wan()
    precompute_prompts(pipe, PROMPTS, SETTINGS)
    with pytest.raises(ValueError, match="The prompt .*'a green bird'.* was not encoded with these arguments"):
        draw(pipe, ["a green bird"], SETTINGS)
    with pytest.raises(ValueError, match="was not encoded with these arguments"):
        draw(pipe, PROMPTS, {**SETTINGS, "negative_prompt": "a dog"})


def test_a_pipeline_that_cannot_is_left_as_it_was():
    class NeedsItsEncoder(type(tiny_wan())):
        def prepare_latents(self, *args, **kwargs):
            assert self.text_encoder.dtype == torch.float32
            return super().prepare_latents(*args, **kwargs)

        def check_inputs(self, *args, **kwargs):
            assert self.text_encoder.dtype == torch.float32
            return super().check_inputs(*args, **kwargs)

    pipe = tiny_wan()
    pipe.__class__ = NeedsItsEncoder
    expected = draw(pipe, PROMPTS, SETTINGS)
    with pytest.raises(ValueError, match="NeedsItsEncoder cannot sample without its text encoders .*dtype"):
        precompute_prompts(pipe, PROMPTS, SETTINGS)
    assert torch.equal(draw(pipe, PROMPTS, SETTINGS), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_every_family(name):
    pipe, kwargs = tiny_pipeline(name), PIPELINES[name].arguments()
    # Latte cuts the text of a prompt that comes alone to its length, so texts that were encoded alone stay alone.
    batches = [PROMPTS] if name != "latte" else [[prompt] for prompt in PROMPTS]
    expected = [draw(pipe, batch, kwargs) for batch in batches]
    precompute_prompts(pipe, PROMPTS, kwargs)
    assert all(part is None for key, part in pipe.components.items() if key.startswith("text_encoder"))
    for batch, frames in zip(batches, expected, strict=True):
        torch.testing.assert_close(draw(pipe, batch, kwargs), frames, rtol=0.0, atol=1e-5)
    if name == "latte":
        with pytest.raises(ValueError, match="cannot be joined: set per_device_train_batch_size=1"):
            draw(pipe, PROMPTS, kwargs)


def test_training_with_it_is_the_same(tmp_path):
    data, runs = [*PROMPTS, "a green bird jumps"], []
    for precompute in (False, True):
        args = tiny_args(tmp_path, max_steps=2, precompute_prompt_embeds=precompute)
        run = DRaFTVTrainer(tiny_wan(), redness, args, train_dataset=data, eval_dataset=["a circle falls"])
        run.train()
        runs.append((run.evaluate()["eval_reward"], lora_weights(run.pipe)))
    assert runs[0][0] == pytest.approx(runs[1][0], abs=1e-6)
    for name, weight in runs[0][1].items():
        torch.testing.assert_close(runs[1][1][name], weight, rtol=0.0, atol=1e-4)
