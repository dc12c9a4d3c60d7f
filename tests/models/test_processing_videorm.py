"""VideoRMVideoProcessor and VideoRMProcessor: every form of a clip, HPS v2's preprocessing, gradients."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, Features, Value, Video
from torchvision.transforms.functional import pad, to_tensor

from tests.factories import tiny_processor
from videorm_hf import VideoRMVideoProcessor
from videorm_hf.models.videorm.video_decoding_videorm import read_frames

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def hps_v2_preprocess(image: PIL.Image.Image) -> torch.Tensor:
    """HPS v2's steps on one image with Pillow, from its description: longest side, zero padding, CLIP's statistics."""
    scale = 224 / max(image.size)
    width, height = (round(side * scale) for side in image.size)
    resized = to_tensor(image.resize((width, height), PIL.Image.Resampling.BICUBIC))
    left, top = (224 - width) // 2, (224 - height) // 2
    return (pad(resized, [left, top, 224 - width - left, 224 - height - top]) - MEAN) / STD


def in_levels(difference: torch.Tensor) -> float:
    """Largest difference of normalised pixels in 8-bit levels."""
    return ((difference * STD).abs().max() * 255).item()


@pytest.mark.parametrize("index", range(4))
def test_file_and_tensor_and_pillow_agree_on_real_clips(real_clips, index):
    processor = VideoRMVideoProcessor()
    from_file = processor(real_clips[index])["pixel_values_videos"][0]
    frames = read_frames(real_clips[index], 8).frames
    as_floats = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    from_tensor = processor(as_floats)["pixel_values_videos"][0]
    from_pillow = torch.stack([hps_v2_preprocess(PIL.Image.fromarray(frame)) for frame in frames])
    assert from_file.shape == (8, 3, 224, 224)
    assert in_levels(from_file - from_tensor) <= 2.001
    assert in_levels(from_file - from_pillow) <= 2.001
    assert in_levels(from_tensor - from_pillow) <= 2.001


def test_file_and_tensor_agree_on_generated_clips(shared_clips):
    processor = VideoRMVideoProcessor()
    for clip in shared_clips[::9]:
        frames = torch.from_numpy(read_frames(clip, 8).frames).permute(0, 3, 1, 2).float() / 255
        difference = processor(clip)["pixel_values_videos"] - processor(frames)["pixel_values_videos"]
        assert in_levels(difference) <= 2, clip


def test_every_form_of_a_clip_gives_the_same_pixels(real_clips):
    processor = VideoRMVideoProcessor()
    path = real_clips[0]
    expected = processor(path)["pixel_values_videos"]
    frames = read_frames(path, 8).frames
    forms = {
        "str": str(path),
        "bytes": path.read_bytes(),
        "datasets, path": {"path": str(path), "bytes": None},
        "datasets, bytes": {"path": None, "bytes": path.read_bytes()},
        "array, channels last": frames,
        "array, channels first": frames.transpose(0, 3, 1, 2),
        "tensor": torch.from_numpy(frames).permute(0, 3, 1, 2),
        "wide integers": frames.astype(np.int64),
        "PIL": [PIL.Image.fromarray(frame) for frame in frames],
        "list of arrays": list(frames),
        "batch of one": torch.from_numpy(frames).permute(0, 3, 1, 2)[None],
        "list of one path": [path],
    }
    for name, form in forms.items():
        assert torch.equal(processor(form)["pixel_values_videos"], expected), name


def test_datasets_video_column(real_clips, tmp_path):
    features = Features({"prompt": Value("string"), "video": Video(decode=False)})
    rows = [{"prompt": path.stem, "video": str(path)} for path in real_clips[:2]]
    dataset = Dataset.from_list(rows, features=features)
    processor = VideoRMVideoProcessor()
    batch = processor(list(dataset["video"]))["pixel_values_videos"]
    assert torch.equal(batch, processor(real_clips[:2])["pixel_values_videos"])


def test_decoded_datasets_values_score_as_their_file(real_clips):
    # Importing torchcodec fails with another error than ImportError where FFmpeg's libraries are absent.
    pytest.importorskip("torchcodec", exc_type=(ImportError, RuntimeError, OSError))
    dataset = Dataset.from_dict({"video": [str(real_clips[0])]}, features=Features({"video": Video()}))
    processor = VideoRMVideoProcessor()
    decoded = dataset[0]["video"]
    expected = processor(real_clips[0])["pixel_values_videos"]
    assert torch.equal(processor(decoded)["pixel_values_videos"], expected)
    # A value read from afar has no local source: its frames come from the decoder itself.
    del decoded._hf_encoded
    assert in_levels(processor(decoded)["pixel_values_videos"] - expected) <= 4


def test_gradients_pass_and_overshoot_is_cut_as_in_eight_bits():
    processor = VideoRMVideoProcessor()
    frames = torch.rand(8, 3, 40, 60, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pixels = processor(frames)["pixel_values_videos"]
    assert pixels.requires_grad
    restored = pixels[0] * STD + MEAN
    assert restored.min() > -1e-6 and restored.max() < 1 + 1e-6
    pixels.sum().backward()
    assert (frames.grad.flatten(1).norm(dim=-1) > 0).all()


def test_two_stages_equal_one(real_clips):
    # Decoding processes hand back small integers; the main process finishes.
    processor = VideoRMVideoProcessor()
    small = processor(real_clips[0], do_rescale=False, do_normalize=False)["pixel_values_videos"]
    assert (small.dtype, tuple(small.shape)) == (torch.uint8, (1, 8, 3, 224, 224))
    finished = processor(small, do_sample_frames=False, do_resize=False)["pixel_values_videos"]
    assert torch.equal(finished, processor(real_clips[0])["pixel_values_videos"])


def test_a_batch_may_mix_integers_and_floating_values():
    processor = VideoRMVideoProcessor()
    clip = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    mixed = processor([clip, clip.astype(np.float32) / 255])["pixel_values_videos"]
    torch.testing.assert_close(mixed[0], mixed[1])
    torch.testing.assert_close(mixed[0], processor(clip)["pixel_values_videos"][0])
    with pytest.raises(ValueError, match="only with do_rescale=True"):
        processor([clip, clip.astype(np.float32) / 255], do_rescale=False, do_normalize=False)


def test_padding_is_black_and_centred():
    white = np.full((1, 10, 20, 3), 255, dtype=np.uint8)
    pixels = VideoRMVideoProcessor(num_frames=1)(white)["pixel_values_videos"][0, 0] * STD + MEAN
    rows = pixels.mean(dim=(0, 2))
    assert rows[:56].abs().max() < 1e-6 and rows[168:].abs().max() < 1e-6
    assert (rows[56:168] - 1).abs().max() < 1e-6


def test_sampling_and_padding_of_decoded_clips():
    processor = VideoRMVideoProcessor(num_frames=4)
    clip = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 224, 224, 3), dtype=np.uint8)

    def first_values(videos, **settings):
        pixels = processor(videos, do_rescale=False, do_normalize=False, **settings)["pixel_values_videos"]
        return pixels[:, :, 0, 0, 0].tolist()

    assert first_values(clip) == [[0, 2, 3, 5]]
    assert first_values(clip[:2]) == [[0, 0, 1, 1]]
    assert first_values(clip, num_frames=1) == [[3]]
    assert first_values(clip, do_sample_frames=False) == [[0, 1, 2, 3, 4, 5]]
    assert "frame_mask" not in processor([clip, clip], do_sample_frames=False)
    padded = processor([clip, clip[:2]], do_sample_frames=False)
    assert padded["frame_mask"].tolist() == [[True] * 6, [True] * 2 + [False] * 4]


def test_grey_and_transparent_frames_become_rgb():
    processor = VideoRMVideoProcessor(num_frames=1)
    settings = {"do_rescale": False, "do_normalize": False}
    grey = processor(np.full((1, 224, 224, 1), 7, dtype=np.uint8), **settings)["pixel_values_videos"]
    assert grey.unique().tolist() == [7]
    glass = np.zeros((1, 224, 224, 4), dtype=np.uint8)
    glass[..., 3] = 51  # one fifth opaque black on white
    assert processor(glass, **settings)["pixel_values_videos"].unique().tolist() == [204]
    image = PIL.Image.fromarray(glass[0], mode="RGBA")
    assert processor([image], **settings)["pixel_values_videos"].unique().tolist() == [204]
    floating = processor(torch.from_numpy(glass).permute(0, 3, 1, 2) / 255)["pixel_values_videos"][0, 0] * STD + MEAN
    torch.testing.assert_close(floating, torch.full_like(floating, 0.8))


def test_saved_settings_come_back(tmp_path):
    small = {"size": {"longest_edge": 112}, "pad_size": {"height": 112, "width": 112}}
    VideoRMVideoProcessor(num_frames=12, **small).save_pretrained(tmp_path)
    loaded = VideoRMVideoProcessor.from_pretrained(tmp_path)
    assert loaded(np.zeros((3, 50, 70, 3), dtype=np.uint8))["pixel_values_videos"].shape == (1, 12, 3, 112, 112)


def test_processor_prepares_prompts_and_clips_together(real_clips):
    processor = tiny_processor()
    inputs = processor(text=["a bicycle", "a very " + "long " * 200 + "prompt"], videos=real_clips[:2])
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values_videos"}
    assert inputs["input_ids"].shape == (2, 77)
    assert inputs["input_ids"][1, -1] == 49407
    assert inputs["attention_mask"].sum(1).tolist() == [4, 77]


@pytest.mark.parametrize(
    ("videos", "error", "message"),
    [
        (np.zeros((2, 5, 5)), ValueError, "4 dimensions \\(one clip\\) or 5 .* got \\(2, 5, 5\\)"),
        (np.zeros((1, 5, 5, 2)), ValueError, "1, 3 or 4 channels, got \\(1, 5, 5, 2\\)"),
        (np.full((1, 5, 5, 3), 2.0), ValueError, "must lie in \\[0, 1\\], got values from 2 to 2"),
        (np.full((1, 5, 5, 3), np.nan), ValueError, "must lie in \\[0, 1\\], got values from nan"),
        (np.full((1, 5, 5, 3), -1), ValueError, "must lie in 0-255, got values from -1"),
        (np.zeros((0, 5, 5, 3)), ValueError, "none of them empty"),
        ([], ValueError, "at least one clip, got an empty list"),
        (3, TypeError, "got int"),
        (io.StringIO(), TypeError, "got StringIO"),
        ([PIL.Image.new("RGB", (4, 4)), PIL.Image.new("RGB", (5, 4))], ValueError, "must have one size"),
        (Path("does-not-exist.mp4"), ValueError, "no file at 'does-not-exist.mp4'"),
    ],
)
def test_wrong_input_is_an_error(videos, error, message):
    with pytest.raises(error, match=message):
        VideoRMVideoProcessor()(videos)


def test_contradictory_settings_are_errors():
    clip = np.zeros((1, 5, 5, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="do_normalize=True needs do_rescale=True"):
        VideoRMVideoProcessor()(clip, do_rescale=False)
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        VideoRMVideoProcessor()(clip, num_frames=0)
    with pytest.raises(ValueError, match="one size when they are not resized"):
        VideoRMVideoProcessor()([clip, np.zeros((1, 6, 5, 3), dtype=np.uint8)], do_resize=False)


def test_floats_of_any_width_share_a_batch() -> None:
    clips = [torch.rand(2, 3, 8, 8, dtype=dtype) for dtype in (torch.float64, torch.float16, torch.float32)]
    clips.append(torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8))
    pixels = VideoRMVideoProcessor(num_frames=2)(clips)["pixel_values_videos"]
    assert pixels.dtype == torch.float32 and pixels.shape[:2] == (4, 2)


def test_frames_that_are_larger_than_what_they_are_padded_to_are_an_error() -> None:
    with pytest.raises(ValueError, match="pad_size must hold frames resized to .*336"):
        VideoRMVideoProcessor(size={"longest_edge": 336})(torch.rand(2, 3, 8, 8))


def test_a_call_may_set_what_the_processor_sets(real_clips) -> None:
    settings = {
        "size": {"longest_edge": 32},
        "pad_size": {"height": 40, "width": 48},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    expected = VideoRMVideoProcessor(**settings)(real_clips[0])["pixel_values_videos"]
    assert expected.shape[-2:] == (40, 48)
    assert torch.equal(VideoRMVideoProcessor()(real_clips[0], **settings)["pixel_values_videos"], expected)
    videos = tiny_processor()(videos=[real_clips[0]], **settings)["pixel_values_videos"]
    assert torch.equal(videos, expected)
    frames = VideoRMVideoProcessor()(np.zeros((1, 10, 20, 3), dtype=np.uint8), do_pad=False)
    assert frames["pixel_values_videos"].shape[-2:] == (112, 224)


def test_settings_that_would_be_ignored_are_errors() -> None:
    clip = np.zeros((1, 5, 5, 3), dtype=np.uint8)
    with pytest.raises(TypeError, match=r"\['crop_size'\] are not known: expected some of .*'size'"):
        VideoRMVideoProcessor()(clip, crop_size={"height": 5, "width": 5})
    with pytest.raises(ValueError, match="size must be such as {'longest_edge': 224}, got .*shortest_edge"):
        VideoRMVideoProcessor()(clip, size={"shortest_edge": 224})
    with pytest.raises(ValueError, match="size must be such as {'longest_edge': 224}, got 224"):
        VideoRMVideoProcessor()(clip, size=224)
    with pytest.raises(ValueError, match="size must be such as"):
        VideoRMVideoProcessor(size=224)(clip)
