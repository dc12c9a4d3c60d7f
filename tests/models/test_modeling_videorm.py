"""VideoRMModel: the facts that decide whether a reward can be trusted."""

import copy

import pytest
import torch
from transformers import AutoModel, CLIPConfig, CLIPModel

from tests.factories import tiny_videorm
from videorm_hf.models.videorm.modeling_videorm import temporal_shift

HEADS = ["transformer", "conv1d", "lstm", "mean"]


def prompts(batch_size: int, seed: int = 1) -> dict[str, torch.Tensor]:
    """Token ids of CLIP's layout: start, words, end, padding."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(1000, 40000, (batch_size, 8), generator=generator)
    input_ids[:, 0], input_ids[:, 5:] = 49406, 49407
    attention_mask = torch.ones_like(input_ids)
    attention_mask[:, 6:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def clips(batch_size: int, num_frames: int, seed: int = 2) -> torch.Tensor:
    """Coloured stripes that differ from frame to frame, in the range of normalised pixels."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batch_size, num_frames, 3, 7, 1, generator=generator)
    columns = torch.randn(batch_size, num_frames, 3, 1, 7, generator=generator)
    return (rows + columns).repeat_interleave(32, dim=-2).repeat_interleave(32, dim=-1)


def image_model(model) -> CLIPModel:
    """transformers' own CLIP with the same weights."""
    config = CLIPConfig(
        text_config=model.config.text_config.to_dict(),
        vision_config=model.config.vision_config.to_dict(),
        projection_dim=model.config.projection_dim,
    )
    clip = CLIPModel(config).eval()
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("temporal_head.")}
    clip.load_state_dict(weights, strict=True)
    return clip


def image_rewards(clip: CLIPModel, images: torch.Tensor, text: dict[str, torch.Tensor]) -> torch.Tensor:
    output = clip(pixel_values=images, **text)
    return (output.image_embeds * output.text_embeds).sum(-1)


@pytest.mark.parametrize(
    "settings",
    [
        {"temporal_head": "mean", "temporal_shift": "none"},
        {"temporal_head": "transformer", "temporal_shift": "none"},
        {"temporal_head": "transformer", "temporal_shift": "residual", "temporal_shift_padding": "replicate"},
        {"temporal_head": "mean", "temporal_shift": "block", "temporal_shift_padding": "replicate"},
        {"temporal_head": "conv1d", "temporal_shift": "none"},
        {"temporal_head": "lstm", "temporal_shift": "none"},
    ],
)
@torch.no_grad()
def test_a_still_clip_scores_as_the_image_model_scores_its_frame(settings):
    model = tiny_videorm(**settings)
    still = clips(2, 1).expand(-1, 8, -1, -1, -1)
    text = prompts(2)
    expected = image_rewards(image_model(model), still[:, 0], text)
    torch.testing.assert_close(model(still, **text).rewards, expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_zero_padding_changes_a_still_clip():
    model = tiny_videorm(temporal_shift="residual", temporal_shift_padding="zero")
    still, text = clips(1, 1).expand(-1, 8, -1, -1, -1), prompts(1)
    expected = image_rewards(image_model(model), still[:, 0], text)
    assert (model(still, **text).rewards - expected).abs().item() > 1e-4


@torch.no_grad()
def test_a_new_model_is_the_mean_of_its_image_tower():
    model = tiny_videorm(temporal_shift="none")
    moving, text = clips(2, 5), prompts(2)
    frames = image_model(model).get_image_features(moving.flatten(0, 1)).pooler_output
    frames = torch.nn.functional.normalize(frames, dim=-1).unflatten(0, (2, 5))
    output = model(moving, **text)
    torch.testing.assert_close(output.frame_embeds, frames, rtol=0, atol=1e-6)
    expected = torch.nn.functional.normalize(frames.mean(1), dim=-1)
    torch.testing.assert_close(output.video_embeds, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "order_matters"),
    [
        ({"temporal_head": "mean", "temporal_shift": "none"}, False),
        ({"temporal_head": "mean", "temporal_shift": "residual"}, True),
        ({"temporal_head": "mean", "temporal_shift": "block"}, True),
        ({"temporal_head": "transformer", "temporal_shift": "none", "open_gate": True}, True),
        ({"temporal_head": "conv1d", "temporal_shift": "none", "open_gate": True}, True),
        ({"temporal_head": "lstm", "temporal_shift": "none", "open_gate": True}, True),
    ],
)
@torch.no_grad()
def test_order_of_frames_matters_where_something_looks_at_time(settings, order_matters):
    model = tiny_videorm(**settings)
    moving, text = clips(2, 6), prompts(2)
    change = (model(moving, **text).rewards - model(moving.flip(1), **text).rewards).abs().max().item()
    assert change > 1e-4 if order_matters else change < 1e-6


@pytest.mark.parametrize("temporal_head", HEADS)
@pytest.mark.parametrize("temporal_shift", ["residual", "block", "none"])
@pytest.mark.parametrize("padding", ["replicate", "zero"])
@torch.no_grad()
def test_padded_frames_change_nothing(temporal_head, temporal_shift, padding):
    model = tiny_videorm(
        temporal_head=temporal_head,
        temporal_shift=temporal_shift,
        temporal_shift_padding=padding,
        open_gate=temporal_head != "mean",
    )
    short, long, text = clips(1, 3), clips(1, 7, seed=3), prompts(2)
    padded = torch.cat([torch.cat([short, 9 * torch.ones(1, 4, 3, 224, 224)], dim=1), long])
    frame_mask = torch.arange(7) < torch.tensor([[3], [7]])
    together = model(padded, **text, frame_mask=frame_mask).rewards
    first = model(short, input_ids=text["input_ids"][:1], attention_mask=text["attention_mask"][:1]).rewards
    second = model(long, input_ids=text["input_ids"][1:], attention_mask=text["attention_mask"][1:]).rewards
    torch.testing.assert_close(together, torch.cat([first, second]), rtol=0, atol=2e-6)


@torch.no_grad()
def test_batch_of_one_equals_batch_of_many_and_text_padding_is_ignored():
    model = tiny_videorm(open_gate=True)
    moving, text = clips(3, 4), prompts(3)
    together = model(moving, **text).rewards
    for index in range(3):
        alone = model(
            moving[index : index + 1],
            input_ids=text["input_ids"][index : index + 1, :6],
            attention_mask=text["attention_mask"][index : index + 1, :6],
        ).rewards
        torch.testing.assert_close(alone, together[index : index + 1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("temporal_head", HEADS)
@pytest.mark.parametrize("num_frames", [1, 2, 32])
@torch.no_grad()
def test_any_length_up_to_max_frames(temporal_head, num_frames):
    model = tiny_videorm(temporal_head=temporal_head, open_gate=temporal_head != "mean")
    rewards = model(clips(1, num_frames), **prompts(1)).rewards
    assert rewards.shape == (1,) and -1 <= rewards.item() <= 1


@pytest.mark.parametrize("temporal_head", HEADS)
def test_gradients_reach_every_frame(temporal_head):
    model = tiny_videorm(temporal_head=temporal_head, open_gate=temporal_head != "mean")
    moving = clips(2, 4).requires_grad_()
    model(moving, **prompts(2)).rewards.sum().backward()
    assert (moving.grad.flatten(2).norm(dim=-1) > 0).all()


def test_pixel_gradient_agrees_with_a_finite_difference():
    model = tiny_videorm(open_gate=True, temporal_shift="residual").double()
    moving, text = clips(1, 3).double().requires_grad_(), prompts(1)
    direction = torch.randn_like(moving)
    model(moving, **text).rewards.sum().backward()
    step = 1e-5
    with torch.no_grad():
        difference = (
            model(moving + step * direction, **text).rewards - model(moving - step * direction, **text).rewards
        )
    expected = (moving.grad * direction).sum().item()
    assert difference.item() / (2 * step) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_embedding_once_equals_the_full_call():
    model = tiny_videorm(open_gate=True)
    moving, text = clips(2, 4), prompts(2)
    output = model(moving, **text)
    torch.testing.assert_close(model.get_text_embeds(**text), output.text_embeds)
    torch.testing.assert_close(model.get_video_embeds(moving), output.video_embeds)
    torch.testing.assert_close(model.pool_frames(output.frame_embeds), output.video_embeds)
    for embeds in (output.text_embeds, output.video_embeds, output.frame_embeds):
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(embeds.shape[:-1]))
    torch.testing.assert_close(output.rewards, (output.text_embeds * output.video_embeds).sum(-1))


@torch.no_grad()
def test_float32_and_bfloat16_agree():
    model = tiny_videorm(open_gate=True)
    moving, text = clips(4, 8), prompts(4)
    exact = model(moving, **text).rewards
    half = model.bfloat16()(moving.bfloat16(), **text).rewards
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0, atol=2e-2)


def test_preference_loss_facts():
    model = tiny_videorm(open_gate=True)
    moving, text = clips(2, 3), prompts(1)
    text = {key: value.repeat(2, 1) for key, value in text.items()}
    same = moving[:1].repeat(2, 1, 1, 1, 1)
    assert model(same, **text, return_loss=True).loss.item() == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-6)
    output = model(moving, **text, return_loss=True)
    gap = model.logit_scale.exp() * (output.rewards[0] - output.rewards[1])
    swapped = model(moving.flip(0), **text, return_loss=True)
    assert output.loss.item() == pytest.approx(-torch.nn.functional.logsigmoid(gap).item(), abs=1e-6)
    assert swapped.loss.item() == pytest.approx(-torch.nn.functional.logsigmoid(-gap).item(), abs=1e-6)
    with pytest.raises(ValueError, match="even batch.*got 3 clips"):
        model(clips(3, 2), **prompts(3), return_loss=True)


@pytest.mark.parametrize("temporal_head", ["transformer", "conv1d", "lstm"])
def test_temporal_training_moves_the_head_and_nothing_else(temporal_head):
    model = tiny_videorm(temporal_head=temporal_head).train()
    model.freeze_for_temporal_training()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    moving, text = clips(2, 4), prompts(2)
    losses = []
    # The gate opens in the first step; only then do gradients reach the branch behind it.
    for _ in range(3):
        loss = model(moving, **text, return_loss=True).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    for name, value in model.state_dict().items():
        moved = not torch.equal(value, before[name])
        assert moved == name.startswith("temporal_head."), name


def test_the_mean_head_has_nothing_to_train():
    with pytest.raises(ValueError, match="temporal_head='mean' has no parameters to train"):
        tiny_videorm(temporal_head="mean").freeze_for_temporal_training()


def test_gradient_checkpointing_gives_the_same_gradients():
    model = tiny_videorm(open_gate=True).train()
    moving, text = clips(2, 3), prompts(2)

    def gradients() -> tuple[list[torch.Tensor], torch.Tensor]:
        pixels = moving.clone().requires_grad_()
        model.zero_grad()
        model(pixels, **text, frame_mask=torch.tensor([[1, 1, 0], [1, 1, 1]]), return_loss=True).loss.backward()
        return [p.grad.clone() for p in model.parameters()], pixels.grad

    plain, plain_pixels = gradients()
    model.gradient_checkpointing_enable()
    checkpointed, checkpointed_pixels = gradients()
    assert model.is_gradient_checkpointing
    torch.testing.assert_close(checkpointed, plain)
    torch.testing.assert_close(checkpointed_pixels, plain_pixels)


@torch.no_grad()
def test_attention_backends_agree_and_eager_shows_attention():
    model = tiny_videorm(open_gate=True)
    moving, text = clips(2, 4), prompts(2)
    frame_mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert model.config._attn_implementation == "sdpa"
    fast = model(moving, **text, frame_mask=frame_mask)
    model.set_attn_implementation("eager")
    assert model.vision_model.config._attn_implementation == "eager"
    eager = model(moving, **text, frame_mask=frame_mask, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(fast.rewards, eager.rewards, rtol=0, atol=2e-6)
    assert [tuple(a.shape) for a in eager.attentions] == [(2, 1, 4, 4)] * 2
    assert [tuple(h.shape) for h in eager.hidden_states] == [(2, 4, 64)] * 3
    assert eager.attentions[0][0, :, :, 3].abs().max().item() == 0


@torch.no_grad()
def test_save_and_load_are_exact_also_in_shards(tmp_path):
    model = tiny_videorm(open_gate=True)
    moving, text = clips(1, 4), prompts(1)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    kept = loaded.state_dict()
    assert all(torch.equal(kept[name], weight) for name, weight in model.state_dict().items())
    # Mapped from a file they may lie where another kernel is chosen, and with it the last digit.
    for weight in loaded.parameters():
        weight.data = weight.data.clone()
    assert torch.equal(loaded(moving, **text).rewards, model(moving, **text).rewards)


@torch.no_grad()
def test_missing_weights_are_initialised_as_in_a_new_model(tmp_path):
    tiny_videorm(temporal_head="mean").save_pretrained(tmp_path)
    config = tiny_videorm(temporal_head="transformer").config
    loaded = AutoModel.from_pretrained(tmp_path, config=config)
    assert loaded.temporal_head.gate.abs().max().item() == 0
    assert loaded.temporal_head.branch.position_embedding.std().item() == pytest.approx(64**-0.5, rel=0.1)


@torch.no_grad()
def test_device_map_dispatches_the_parts(tmp_path):
    model = tiny_videorm(open_gate=True)
    moving, text = clips(1, 4), prompts(1)
    model.save_pretrained(tmp_path)
    device_map = {"text_model": "disk", "vision_model": "cpu", "temporal_head": "disk"}
    device_map |= dict.fromkeys(("visual_projection", "text_projection", "logit_scale"), "cpu")
    loaded = AutoModel.from_pretrained(tmp_path, device_map=device_map, offload_folder=tmp_path / "offload")
    assert loaded.hf_device_map["text_model"] == "disk"
    torch.testing.assert_close(loaded(moving, **text).rewards, model(moving, **text).rewards)


@torch.no_grad()
def test_compiles_without_graph_breaks():
    model = tiny_videorm(open_gate=True)
    moving, text = clips(1, 3), prompts(1)
    compiled = torch.compile(model.get_video_embeds, fullgraph=True, backend="aot_eager")
    mask = torch.tensor([[True, True, False]])
    torch.testing.assert_close(compiled(moving, mask), model.get_video_embeds(moving, mask), rtol=0, atol=2e-6)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(moving, **text).rewards, model(moving, **text).rewards, rtol=0, atol=2e-6)


@pytest.mark.parametrize("padding", ["zero", "replicate"])
def test_temporal_shift_moves_the_named_channels(padding):
    # Frame t holds t + 1 everywhere: where a value comes from can be read off it.
    frames = torch.arange(1.0, 5.0)[None, :, None, None].expand(1, 4, 3, 16).flatten(0, 1)
    shifted = temporal_shift(frames, num_frames=4, fold_div=8, padding=padding).unflatten(0, (1, 4))[0]
    assert torch.equal(shifted[:, 0], frames[:, 0])
    edge_next, edge_previous = (0.0, 0.0) if padding == "zero" else (4.0, 1.0)
    assert shifted[:, 1, :2].tolist() == [[2.0] * 2, [3.0] * 2, [4.0] * 2, [edge_next] * 2]
    assert shifted[:, 2, 2:4].tolist() == [[edge_previous] * 2, [1.0] * 2, [2.0] * 2, [3.0] * 2]
    assert torch.equal(shifted[:, 1:, 4:], frames.unflatten(0, (1, 4))[0][:, 1:, 4:])


@pytest.mark.parametrize(
    ("pixels", "mask", "message"),
    [
        ((1, 3, 224, 224), None, "must be \\(batch_size, num_frames, 3, height, width\\), got \\(1, 3, 224, 224\\)"),
        ((1, 3, 2, 224, 224), None, "got \\(1, 3, 2, 224, 224\\)"),
        ((1, 33, 3, 224, 224), None, "max_frames=32 frames, got 33"),
        ((1, 2, 3, 224, 224), [[1, 1, 1]], "frame_mask must be .* got \\(1, 3\\)"),
        ((1, 2, 3, 224, 224), [[0, 1]], "must start with a true frame"),
        ((1, 3, 3, 224, 224), [[1, 0, 1]], "all padding at the end"),
        ((2, 2, 3, 224, 224), None, "got 1 prompts and 2 clips"),
    ],
)
def test_wrong_input_is_an_error(pixels, mask, message):
    model = tiny_videorm()
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(pixels), **prompts(1), frame_mask=None if mask is None else torch.tensor(mask))
