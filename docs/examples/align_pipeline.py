"""Tune a text-to-video pipeline towards a reward with DRaFT-V, guarded against reward hacking.

    python docs/examples/align_pipeline.py "a dog runs on grass" "a kite over the sea" --output wan-lora

By default Wan 2.1 (1.3B) is tuned by HPS v2.1, both from the Hub, on one GPU; `--reward FOLDER` takes a VIDEORM, which
also sees motion. Any text-to-video pipeline of diffusers can be named. The run stops by itself when motion or the
second reward falls while the trained reward rises. Look at the videos of the first prompts in `wan-lora/samples`.
"""

import argparse

import torch
from diffusers import DiffusionPipeline

from draftv_trainer import DRaFTVConfig, DRaFTVTrainer
from videorm_hf.models.sources import find_source


def main() -> None:
    """Tune, save the LoRA, and compare the reward of the same prompts and noise before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", help="texts to train on; at least two, hundreds are better")
    parser.add_argument("--pipeline", default="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", help="folder, Hub id or t2v-mini")
    parser.add_argument("--reward", default="hps_v2.1:xswu/HPSv2", help="trained on: NAME:SOURCE or a VIDEORM folder")
    parser.add_argument("--monitor", default="pick_score:yuvalkirstain/PickScore_v1", help="watched, never trained on")
    parser.add_argument("--output", default="wan-lora", help="folder of the LoRA")
    parser.add_argument("--steps", type=int, default=400, help="optimisation steps; the paper's number")
    parser.add_argument("--batch", type=int, default=8, help="videos in a step, one after the other; the paper's")
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--num-inference-steps", type=int, default=20)
    parser.add_argument("--num-backprop-steps", type=int, default=10, help="K: the last steps get a gradient")
    parser.add_argument("--guidance-scale", type=float, default=5.0)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 832), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--num-frames", type=int, default=33, help="of a video; Wan makes 4k+1")
    options = parser.parse_args()

    on_gpu = torch.cuda.is_available()
    source = find_source(options.pipeline, "--pipeline")
    pipe = DiffusionPipeline.from_pretrained(source, dtype=torch.bfloat16 if on_gpu else torch.float32)
    args = DRaFTVConfig(
        output_dir=options.output,
        max_steps=options.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=options.batch,
        learning_rate=options.learning_rate,
        num_backprop_steps=options.num_backprop_steps,
        num_inference_steps=options.num_inference_steps,
        guidance_scale=options.guidance_scale,
        height=options.size[0],
        width=options.size[1],
        num_frames=options.num_frames,
        reward_augmentation="shift,blur,noise,color",  # hides patterns of single pixels from the reward
        ema_decay=0.99,
        guard_steps=max(1, options.steps // 20),
        sample_steps=max(1, options.steps // 4),
        save_steps=max(1, options.steps // 8),
        save_total_limit=2,
        report_to="none",
        seed=0,
    )
    trainer = DRaFTVTrainer(
        pipe,
        options.reward,
        args,
        train_dataset=options.prompts,
        eval_dataset=options.prompts[:4],  # also the fixed prompts of guard and samples
        monitor_rewards=options.monitor,
    )
    before = trainer.evaluate()["eval_reward"]
    trainer.train()
    after = trainer.evaluate()["eval_reward"]
    trainer.save_model()
    print(f"reward of the first {min(4, len(options.prompts))} prompts, same noise: {before:.4f}, now {after:.4f}")
    print(f"{options.output} holds the LoRA, a card with the facts of the run, and samples/")


if __name__ == "__main__":
    main()
