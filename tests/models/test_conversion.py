"""Converters: scores equal those of open_clip and transformers on the same weights, and nothing else passes."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from tests.real_data import real_data
from videorm_hf import VideoRMModel, VideoRMProcessor
from videorm_hf.models.conversion import ConversionError, clip_tokenizer, convert_checkpoint
from videorm_hf.models.open_clip_layout import clip_configs, infer_architecture, to_transformers

PROMPTS = ["a corgi on a skateboard", "two kites over the sea at dusk", "it's raining in Tōkyō, 1985!"]
TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def build_open_clip(model_cfg: dict, seed: int = 0) -> open_clip.CLIP:
    torch.manual_seed(seed)
    model = open_clip.CLIP(**model_cfg).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:  # norms and biases start at one and zero, where a mix-up would not show
            torch.nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.1)
    return model


@pytest.fixture(scope="module")
def tiny_open_clip() -> open_clip.CLIP:
    return build_open_clip(TINY)


@pytest.fixture(scope="module")
def tiny_architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with an `open_clip_config.json`, as open_clip publishes them."""
    folder = tmp_path_factory.mktemp("architecture")
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    config = {"model_cfg": TINY, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def tiny_clip_model(**overrides: object) -> CLIPModel:
    text, vision = clip_configs(TINY, "tiny")
    torch.manual_seed(1)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64, **overrides)).eval()


def rewards_of_still_clips(folder: Path, frames: torch.Tensor) -> torch.Tensor:
    """Score one still clip of 4 frames a prompt; `frames` (B, 3, H, W) are normalised."""
    model, processor = VideoRMModel.from_pretrained(folder).eval(), VideoRMProcessor.from_pretrained(folder)
    tokens = processor.tokenizer(PROMPTS, padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        return model(frames[:, None].expand(-1, 4, -1, -1, -1), **tokens).rewards


def cosines_of_open_clip(model: open_clip.CLIP, frames: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        image_embeds = model.encode_image(frames, normalize=True)
        text_embeds = model.encode_text(open_clip.tokenize(PROMPTS), normalize=True)
    return (image_embeds * text_embeds).sum(-1)


def normalised_frames(seed: int = 2) -> torch.Tensor:
    return torch.randn(len(PROMPTS), 3, 224, 224, generator=torch.Generator().manual_seed(seed))


# --- Parity ---------------------------------------------------------------------------------------------------------


def check_parity(architecture: str, folder: Path) -> None:
    """Random open_clip weights score alike in open_clip, transformers and the VIDEORM made of them."""
    model_cfg = open_clip.get_model_config(architecture)
    model = build_open_clip(model_cfg)
    frames = normalised_frames()
    expected = cosines_of_open_clip(model, frames)
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, folder / "open_clip.pt")
    state_dict = to_transformers(model.state_dict())
    del model

    convert_checkpoint(folder / "open_clip.pt", folder / "videorm", architecture=architecture)
    (folder / "open_clip.pt").unlink()
    torch.testing.assert_close(rewards_of_still_clips(folder / "videorm", frames), expected, rtol=0, atol=1e-5)

    text, vision = clip_configs(model_cfg, architecture)
    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=model_cfg["embed_dim"]))
    clip.to_empty(device="cpu").load_state_dict(state_dict)
    for tower in (clip.text_model, clip.vision_model):
        embeddings = tower.embeddings
        embeddings.position_ids.copy_(torch.arange(embeddings.position_ids.shape[-1])[None])
    tokens = clip_tokenizer()(PROMPTS, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        output = clip.eval()(pixel_values=frames, **tokens)
    torch.testing.assert_close((output.image_embeds * output.text_embeds).sum(-1), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_vit_b_32_scores_as_open_clip_and_transformers(tmp_path: Path) -> None:
    check_parity("ViT-B-32", tmp_path)


@pytest.mark.slow
def test_vit_h_14_scores_as_open_clip_and_transformers(tmp_path: Path) -> None:
    check_parity("ViT-H-14", tmp_path)


@pytest.mark.slow
def test_open_clip_tag_keeps_the_activation_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_open_clip(open_clip.get_model_config("ViT-B-32-quickgelu"))
    torch.save(model.state_dict(), tmp_path / "downloaded.bin")
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(tmp_path / "downloaded.bin"))
    report = convert_checkpoint("ViT-B-32:openai", tmp_path / "videorm")
    frames = normalised_frames()
    expected = cosines_of_open_clip(model, frames)
    torch.testing.assert_close(rewards_of_still_clips(tmp_path / "videorm", frames), expected, rtol=0, atol=1e-5)
    assert any("QuickGELU" in note for note in report.notes)


@pytest.mark.parametrize(("temporal_shift", "quick_gelu"), [("none", False), ("residual", True), ("block", True)])
def test_activation_and_shift_keep_still_clips(tmp_path: Path, temporal_shift: str, quick_gelu: bool) -> None:
    model_cfg = TINY | {"quick_gelu": quick_gelu}
    model = build_open_clip(model_cfg)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg}))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    out = tmp_path / "out"
    convert_checkpoint(
        tmp_path / "weights.pt", out, architecture=f"local-dir:{tmp_path}", temporal_shift=temporal_shift
    )
    frames = normalised_frames()
    expected = cosines_of_open_clip(model, frames)
    torch.testing.assert_close(rewards_of_still_clips(out, frames), expected, rtol=0, atol=1e-5)
    assert VideoRMModel.from_pretrained(out).config.temporal_shift == temporal_shift


# --- Forms of a source ----------------------------------------------------------------------------------------------


def write_hps(model: open_clip.CLIP, folder: Path) -> Path:
    path = folder / "HPS_v2.1_compressed.pt"
    torch.save({"epoch": 3, "name": "hps", "state_dict": model.state_dict(), "optimizer": {"state": {}}}, path)
    return path


def write_distributed(model: open_clip.CLIP, folder: Path) -> Path:
    state_dict = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": {**state_dict, "module.attn_mask": torch.zeros(77, 77)}}, folder / "epoch_9.pt")
    return folder / "epoch_9.pt"


def write_flat(model: open_clip.CLIP, folder: Path) -> Path:
    torch.save(model.state_dict() | {"logit_scale": model.logit_scale.detach()[None]}, folder / "flat.bin")
    return folder / "flat.bin"


def write_safetensors(model: open_clip.CLIP, folder: Path) -> Path:
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder / "open_clip_model.safetensors"


@pytest.mark.parametrize("write", [write_hps, write_distributed, write_flat, write_safetensors])
def test_checkpoint_files(
    tmp_path: Path,
    tiny_open_clip: open_clip.CLIP,
    tiny_architecture: str,
    write: Callable[[open_clip.CLIP, Path], Path],
) -> None:
    source = write(tiny_open_clip, tmp_path)
    report = convert_checkpoint(source, tmp_path / "out", architecture=tiny_architecture)

    assert report.source_kind == ("hps_v2" if write is write_hps else "open_clip")
    assert report.num_source_tensors == len(tiny_open_clip.state_dict())
    assert report.num_converted_parameters == sum(p.numel() for p in tiny_open_clip.parameters())
    assert report.fresh_parameters and all(name.startswith("temporal_head.") for name in report.fresh_parameters)
    frames = normalised_frames()
    expected = cosines_of_open_clip(tiny_open_clip, frames)
    torch.testing.assert_close(rewards_of_still_clips(tmp_path / "out", frames), expected, rtol=0, atol=1e-5)


def test_open_clip_folder_keeps_its_colours(
    tmp_path: Path, tiny_open_clip: open_clip.CLIP, tiny_architecture: str
) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    config = Path(tiny_architecture.removeprefix("local-dir:")) / "open_clip_config.json"
    (folder / "open_clip_config.json").write_text(config.read_text())
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    write_safetensors(tiny_open_clip, folder)
    report = convert_checkpoint(folder, tmp_path / "out")

    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert processor.video_processor.image_mean == (0.5, 0.4, 0.3)
    assert processor.video_processor.image_std == (0.2, 0.3, 0.4)
    assert (report.source_kind, report.license) == ("open_clip", "mit")
    frames = normalised_frames()
    expected = cosines_of_open_clip(tiny_open_clip, frames)
    torch.testing.assert_close(rewards_of_still_clips(tmp_path / "out", frames), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("legacy_eos", [False, True])
def test_transformers_folder(tmp_path: Path, legacy_eos: bool) -> None:
    clip = tiny_clip_model()
    if legacy_eos:  # as in the configurations of OpenAI's CLIP and PickScore
        clip.config.text_config.eos_token_id = clip.text_model.eos_token_id = 2
    source = tmp_path / "pickscore"
    clip.save_pretrained(source)
    if legacy_eos:  # and with them keys of libraries of their time
        config = json.loads((source / "config.json").read_text())
        for tower in ("text_config", "vision_config"):
            config[tower] |= {"dropout": 0.0, "add_cross_attention": False, "torchscript": False, "num_beams": 1}
        (source / "config.json").write_text(json.dumps(config))
    tokenizer = clip_tokenizer()
    tokenizer.save_pretrained(source)
    CLIPImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(source)
    (source / "README.md").write_text("---\nlicense: mit\n---\n")
    report = convert_checkpoint(source, tmp_path / "out")

    frames = normalised_frames()
    with torch.no_grad():
        output = clip(pixel_values=frames, **tokenizer(PROMPTS, padding="max_length", return_tensors="pt"))
    expected = (output.image_embeds * output.text_embeds).sum(-1)
    torch.testing.assert_close(rewards_of_still_clips(tmp_path / "out", frames), expected, rtol=0, atol=1e-5)
    assert (report.source_kind, report.license) == ("transformers", "mit")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert processor.video_processor.image_mean == (0.1, 0.2, 0.3)
    assert not any("tokenizer" in note for note in report.notes)


def test_transformers_folder_without_tokenizer_gets_clips_own(tmp_path: Path) -> None:
    tiny_clip_model().save_pretrained(tmp_path / "clip")
    report = convert_checkpoint(tmp_path / "clip", tmp_path / "out")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(PROMPTS)["input_ids"] == clip_tokenizer()(PROMPTS)["input_ids"]
    assert any("tokenizer" in note for note in report.notes)


# --- The folder -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hps_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_open_clip: open_clip.CLIP, tiny_architecture: str
) -> Path:
    folder = tmp_path_factory.mktemp("hps")
    convert_checkpoint(
        write_hps(tiny_open_clip, folder),
        folder / "out",
        architecture=tiny_architecture,
        num_frames=4,
        dtype="bfloat16",
    )
    return folder / "out"


def test_folder_scores_videos_with_the_auto_classes(hps_folder: Path, real_clips: list[Path]) -> None:
    model, processor = AutoModel.from_pretrained(hps_folder), AutoProcessor.from_pretrained(hps_folder)
    inputs = processor(text=PROMPTS[:2], videos=[str(clip) for clip in real_clips[:2]], return_tensors="pt")
    assert inputs["pixel_values_videos"].shape == (2, 4, 3, 224, 224)
    with torch.no_grad():
        rewards = model.float()(**inputs).rewards
    assert rewards.shape == (2,) and rewards.abs().max() <= 1
    assert json.loads((hps_folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_model_card_says_what_is_untrained(hps_folder: Path) -> None:
    card = ModelCard.load(hps_folder / "README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "transformers"
    assert "# VIDEORM from HPS_v2.1_compressed.pt" in card.text
    assert "The temporal head is untrained" in card.text
    assert "HPS v2.0 and v2.1 are on different scales" in card.text
    assert str(hps_folder.parent) not in card.text


def test_conversion_is_reproducible(tmp_path: Path, tiny_open_clip: open_clip.CLIP, tiny_architecture: str) -> None:
    source = write_hps(tiny_open_clip, tmp_path)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        convert_checkpoint(source, tmp_path / name, architecture=tiny_architecture, seed=seed)
    assert torch.equal(before, torch.get_rng_state())
    a, b, c = (VideoRMModel.from_pretrained(tmp_path / name).state_dict() for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    differing = {name for name in a if not torch.equal(a[name], c[name])}
    assert differing and all(name.startswith("temporal_head.") for name in differing)


def test_mean_head_has_nothing_fresh(tmp_path: Path, tiny_open_clip: open_clip.CLIP, tiny_architecture: str) -> None:
    source = write_hps(tiny_open_clip, tmp_path)
    report = convert_checkpoint(source, tmp_path / "out", architecture=tiny_architecture, temporal_head="mean")
    assert report.fresh_parameters == () and report.num_fresh_parameters == 0


# --- What is refused ------------------------------------------------------------------------------------------------


def test_keys_that_do_not_fit_are_listed(
    tmp_path: Path, tiny_open_clip: open_clip.CLIP, tiny_architecture: str
) -> None:
    state_dict = dict(tiny_open_clip.state_dict())
    del state_dict["visual.ln_post.bias"]
    state_dict["visual.head.weight"] = torch.zeros(2, 2)
    state_dict["text_projection"] = torch.zeros(32, 7)
    torch.save(state_dict, tmp_path / "odd.pt")
    with pytest.raises(ConversionError) as error:
        convert_checkpoint(tmp_path / "odd.pt", tmp_path / "out", architecture=tiny_architecture)
    message = str(error.value)
    assert "missing (1):\n    visual.ln_post.bias (64,)" in message
    assert "unexpected (1):\n    visual.head.weight (2, 2)" in message
    assert "text_projection: got (32, 7), expected (32, 64)" in message
    assert not (tmp_path / "out").exists()


def test_transformers_keys_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    clip = tiny_clip_model()
    state_dict = clip.state_dict()
    state_dict["stray.weight"] = torch.zeros(2)
    state_dict["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # harmless, as old versions saved it
    del state_dict["vision_model.post_layernorm.bias"]
    state_dict["text_projection.weight"] = torch.zeros(64, 8)
    clip.config.save_pretrained(tmp_path)
    save_file(state_dict, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConversionError) as error:
        convert_checkpoint(tmp_path, tmp_path / "out")
    message = str(error.value)
    assert "vision_model.post_layernorm.bias" in message and "stray.weight" in message
    assert "text_projection.weight: got (64, 8), expected (64, 32)" in message
    assert "position_ids" not in message


def test_architecture_is_told_from_shapes_only_where_they_tell(tmp_path: Path) -> None:
    with torch.device("meta"):
        small = open_clip.CLIP(**open_clip.get_model_config("ViT-S-16")).state_dict()
        base = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32")).state_dict()
    assert infer_architecture(small) == "ViT-S-16"
    with pytest.raises(ConversionError, match=r"ViT-B-32 \(gelu.*ViT-B-32-quickgelu \(quick_gelu.*--architecture"):
        infer_architecture(base)
    with pytest.raises(ConversionError, match="no architecture fits"):
        infer_architecture({"weight": torch.zeros(2)})


@pytest.mark.parametrize(
    ("architecture", "part"),
    [
        ("RN50", "vision_cfg.layers"),
        ("coca_ViT-B-32", "multimodal_cfg"),
        ("ViT-B-16-SigLIP", "timm_model_name"),
        ("ViT-H-14-CLIPA", "pool_type"),
    ],
)
def test_architectures_beyond_plain_clip_are_refused(architecture: str, part: str) -> None:
    with pytest.raises(ConversionError, match=part):
        clip_configs(open_clip.get_model_config(architecture), architecture)


def test_sources_that_cannot_be_read(tmp_path: Path, tiny_architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "text.pt").write_text("not a checkpoint")
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    (tmp_path / "note.pt").write_text("just text\n")  # the unpickler takes its first letter for an instruction
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "empty.pt")
    torch.save({"state_dict": {}, "model": open_clip.CLIP}, tmp_path / "classes.pt")
    (tmp_path / "bare").mkdir()
    for source, message in {
        "text.pt": "could not be read",
        "text.safetensors": "could not be read",
        "note.pt": "could not be read",
        "empty.pt": "holds no weights.*epoch, loss",
        "classes.pt": "would run its code",
        "bare": "neither a file, nor an open_clip name",
    }.items():
        with pytest.raises(ConversionError, match=message):
            convert_checkpoint(tmp_path / source, tmp_path / "out")
    for source, message in {
        "ViT-H-14": "without them it scores at random.*laion2b_s32b_b79k",
        "ViT-H-14:nonsense": "no pretrained weights 'nonsense'.*laion2b_s32b_b79k",
        "ViT-B-32:openai": "Without a network",
        "RN50:openai": "not a plain CLIP",
        "hf-hub:nobody/nothing": "nobody/nothing",
        "nobody/nothing": "neither a file, nor an open_clip name",
        "HPS_v2.1_mistyped.pt": "neither a file, .* there is no such folder from",
    }.items():
        with pytest.raises(ConversionError, match=message):
            convert_checkpoint(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bare",
        "classes.pt",
        "empty.pt",
        "note.pt",
        "text.pt",
        "text.safetensors",
    ]


def test_options_that_do_not_apply(tmp_path: Path, videorm_folder: Path, tiny_architecture: str) -> None:
    for source, options, message in [
        (videorm_folder, {}, "is a 'videorm' model"),
        (videorm_folder, {"architecture": "ViT-B-32"}, "is not a file"),
        (videorm_folder, {"revision": "main"}, "needs a transformers hub id"),
        (videorm_folder, {"dtype": "int8"}, "float32, bfloat16, float16, got 'int8'"),
    ]:
        with pytest.raises(ConversionError, match=message):
            convert_checkpoint(source, tmp_path / "out", **options)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(ConversionError, match="no architecture 'ViT-Z'"):
        convert_checkpoint(tmp_path / "weights.pt", tmp_path / "out", architecture="ViT-Z")


def test_destination_is_kept_or_replaced_whole(
    tmp_path: Path, tiny_open_clip: open_clip.CLIP, tiny_architecture: str
) -> None:
    source, out = write_hps(tiny_open_clip, tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    for overwrite, message in [(False, "not empty"), (True, "does not hold a VIDEORM")]:
        with pytest.raises(ConversionError, match=message):
            convert_checkpoint(source, out, architecture=tiny_architecture, overwrite=overwrite)
    assert (out / "thesis.tex").read_text() == "precious"

    (out / "thesis.tex").unlink()
    first = convert_checkpoint(source, out, architecture=tiny_architecture)
    (out / "stale.txt").write_text("from the run before")
    second = convert_checkpoint(source, out, architecture=tiny_architecture, overwrite=True)
    assert not (out / "stale.txt").exists()
    assert dataclasses.replace(first, config=second.config) == second
    assert [path.name for path in tmp_path.iterdir() if ".partial" in path.name] == []


def test_interrupted_run_leaves_nothing(
    tmp_path: Path, tiny_open_clip: open_clip.CLIP, tiny_architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoRMProcessor, "save_pretrained", interrupt)
    source = write_hps(tiny_open_clip, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(source, tmp_path / "out", architecture=tiny_architecture)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


# --- Tokenizer ------------------------------------------------------------------------------------------------------


def same_ids(prompts: list[str]) -> list[bool]:
    """Tell for each prompt whether transformers' ids up to the end of text are open_clip's."""
    ours = clip_tokenizer()(prompts, padding="max_length", truncation=True)["input_ids"]
    theirs = open_clip.tokenize(prompts).tolist()
    ends = [ids.index(49407) + 1 for ids in theirs]
    return [a[:end] == b[:end] and set(a[end:]) <= {49407} for a, b, end in zip(ours, theirs, ends, strict=True)]


def test_tokenizer_gives_open_clips_ids() -> None:
    subjects = [
        "a corgi",
        "THE Eiffel Tower",
        "naïve café-goers",
        "日本語のビデオ",
        "мальчик",
        "نص عربي",
        "emoji 😀🎬",
        "12345 km/h",
    ]
    frames = [
        "{}",
        "{} running, 4K!!",
        "  {}\t(slow-motion)\n",
        "it's {}'s day; don't stop",
        "“{}”".strip("“”"),
        "#{} @x/y_z",
    ]
    endings = ["", " at 24fps & 1080p", " ... the end?"]
    prompts = [frame.format(subject) + end for subject in subjects for frame in frames for end in endings]
    prompts += ["", "word " * 200, "e\u0301 combining", "½ ² Ⅷ", "\u00a0non-breaking\u00a0space"]
    assert len(prompts) > 140 and all(same_ids(prompts))


def test_tokenizer_differs_where_open_clip_repairs_text() -> None:
    # open_clip straightens curly quotes, splits ligatures, narrows wide letters, resolves entities; transformers not.
    assert same_ids(["“quoted”", "ﬁne", "Ａ", "&amp;"]) == [False] * 4


def test_tokenizer_on_real_prompts() -> None:
    same = same_ids(real_data("prompts/vbench_all_dimension.txt").read_text(encoding="utf-8").splitlines())
    assert len(same) > 900 and all(same)


def test_a_clip_that_takes_longer_prompts_is_refused(tmp_path: Path) -> None:
    text, vision = clip_configs(TINY, "tiny")
    text = {**text, "max_position_embeddings": 248}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)).save_pretrained(tmp_path / "long")
    with pytest.raises(ConversionError, match="takes prompts of 248 tokens; expected CLIP's 77"):
        convert_checkpoint(tmp_path / "long", tmp_path / "out")
