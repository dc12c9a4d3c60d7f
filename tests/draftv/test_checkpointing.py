"""Checkpointing: equal frames and gradients in every mode, calls recomputed, the right mode for automatic."""

import pytest
import torch

from draftv_trainer.checkpointing import CHECKPOINTING_MODES, apply_checkpointing, checkpointed
from draftv_trainer.graph_steps import spread_steps
from draftv_trainer.sampling import sample_with_grad
from tests.draftv.explicit_sampling import STEPS, assert_same_gradients, gradients_of, lora_pipe
from tests.draftv.factories import PROMPTS, TINY_SIZE, generators, redness

BLOCKS, WITH_GUIDANCE = 2, 2


def draw(pipe, mode, steps):
    checkpoint_calls = apply_checkpointing(mode, pipe.transformer, None)
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS, "generator": generators(len(PROMPTS))}
    return sample_with_grad(pipe, PROMPTS, steps, checkpoint_calls=checkpoint_calls, **arguments)


@pytest.mark.parametrize("steps", [3, spread_steps(2, 0)], ids=["last", "drtune"])
@pytest.mark.parametrize("mode", ["block", "step", "nested", "auto"])
def test_frames_and_gradients_are_equal(mode, steps):
    plain, pipe = lora_pipe(), lora_pipe()
    expected, frames = draw(plain, "none", steps), draw(pipe, mode, steps)
    assert torch.equal(frames, expected)
    assert_same_gradients(
        gradients_of(pipe, redness(frames, PROMPTS).sum()), gradients_of(plain, redness(expected, PROMPTS).sum())
    )


@pytest.mark.parametrize(
    ("mode", "patch_calls", "block_calls"), [("none", 0, 0), ("block", 0, 1), ("step", 1, 1), ("nested", 1, 2)]
)
def test_what_is_computed_again_in_the_backward_pass(mode, patch_calls, block_calls):
    """The patch embedding belongs to the call alone; a block inside a checkpointed call is computed at both levels."""
    pipe, counts = lora_pipe(), {"patch": 0, "block": 0}
    pipe.transformer.patch_embedding.register_forward_pre_hook(lambda *_: counts.update(patch=counts["patch"] + 1))
    for block in pipe.transformer.blocks:
        block.norm1.register_forward_pre_hook(lambda *_: counts.update(block=counts["block"] + 1))
    frames = draw(pipe, mode, 3)
    counts.update(patch=0, block=0)
    frames.mean().backward()
    assert counts == {"patch": 3 * WITH_GUIDANCE * patch_calls, "block": 3 * WITH_GUIDANCE * BLOCKS * block_calls}


@pytest.mark.parametrize(
    ("mode", "num_steps", "blocks", "calls"),
    [
        ("auto", 1, True, False),
        ("auto", 2, True, True),
        ("auto", None, True, True),
        ("none", 8, False, False),
        ("block", 8, True, False),
        ("step", 1, False, True),
        ("nested", 1, True, True),
    ],
)
def test_modes(mode, num_steps, blocks, calls):
    denoiser = lora_pipe().transformer
    denoiser.enable_gradient_checkpointing()
    assert apply_checkpointing(mode, denoiser, num_steps) is calls
    assert denoiser.is_gradient_checkpointing is blocks


def test_a_denoiser_that_cannot_checkpoint_its_blocks():
    denoiser = lora_pipe().transformer
    denoiser._supports_gradient_checkpointing = False
    assert apply_checkpointing("auto", denoiser, 1) is True
    assert apply_checkpointing("none", denoiser, 8) is False
    with pytest.raises(ValueError, match="WanTransformer3DModel cannot checkpoint its blocks: got .*'nested'"):
        apply_checkpointing("nested", denoiser, 8)


def test_an_unknown_mode():
    with pytest.raises(ValueError, match=r"checkpointing must be one of \['auto', .*got 'full'"):
        apply_checkpointing("full", lora_pipe().transformer, 1)
    assert CHECKPOINTING_MODES[0] == "auto"


def test_random_numbers_and_keyword_arguments_are_those_of_the_first_call():
    weight = torch.ones(8, requires_grad=True)

    def noisy(x, *, debug, context_fn):
        return {"out": (torch.rand_like(x) * x * debug + context_fn,)}

    torch.manual_seed(0)
    output = checkpointed(noisy, (weight,), {"debug": 2.0, "context_fn": 1.0})["out"][0]
    torch.rand(3)
    output.sum().backward()
    torch.testing.assert_close(weight.grad, output.detach() - 1.0)
