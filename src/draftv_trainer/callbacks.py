"""What watches a run: sample videos and the guard on fixed prompts, updates that are not finite, the progress bar."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import ProgressCallback

from draftv_trainer.decoding import reward_decoding
from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.guard import TRAINED_REWARD, find_falls, is_sound, mean_motion
from draftv_trainer.reward_terms import RewardTerm, score_frames
from draftv_trainer.rollout import RewardRollout, noise_seed, spread_frames
from draftv_trainer.sample_videos import SampleVideo, report_samples, write_samples
from draftv_trainer.sampling import sample
from videorm_hf.videoprefer.video_io import to_bytes

logger = logging.getLogger(__name__)

MOTION = "motion"


@dataclass(frozen=True)
class FixedPrompts:
    """What is sampled the same way each time.

    Args:
        prompts (`list[str]`):
            Texts.
        columns (`dict[str, list[Any]]`):
            Other columns, for the rewards.
    """

    prompts: list[str]
    columns: dict[str, list[Any]]

    def row(self, index: int) -> tuple[list[str], dict[str, list[Any]]]:
        """Return the prompt and the columns of one clip, as a batch of one."""
        return self.prompts[index : index + 1], {name: [values[index]] for name, values in self.columns.items()}


class SampleVideosCallback(TrainerCallback):
    """Sample fixed prompts from fixed noise: write the videos, score them by the monitors, and stop a hacked run.

    Videos are made at the start and every `sample_steps` steps, scores at the start, every `guard_steps` steps and at
    the end of the run. The guard is [`~draftv_trainer.guard.find_falls`]; when it stops a run, it puts back the LoRA
    of the last look at which no monitor was below its start, at worst the untrained one. With several processes each
    samples its share.

    Args:
        trainer (`DRaFTVTrainer`):
            Whose model is sampled and whose log takes the scores.
        fixed (`FixedPrompts`):
            What to sample.
        monitors (`list[RewardTerm]`):
            Rewards that are not trained on.

    Raises:
        ValueError: If the guard has fewer than two prompts, whose scores would have no spread, or a monitor has the
            built-in's name.
    """

    def __init__(self, trainer: Trainer, fixed: FixedPrompts, monitors: Sequence[RewardTerm]) -> None:
        if trainer.args.guard_steps is not None and len(fixed.prompts) < 2:
            raise ValueError(
                f"guard_steps needs at least two fixed prompts to know the spread of a monitor: got {fixed.prompts}. "
                "Set sample_prompts; a prompt may be repeated, for each place has its own noise."
            )
        if trainer.args.monitor_motion and any(term.name == MOTION for term in monitors):
            raise ValueError(
                f"monitor_rewards must not hold one called {MOTION!r}, for the built-in has this name: rename it or "
                "set monitor_motion=False."
            )
        self.trainer = trainer
        self.fixed = fixed
        self.monitors = list(monitors)
        self.start: dict[str, list[float]] | None = None
        # Step and LoRA of the last look at which no monitor was below its start.
        self.kept: tuple[int, list[torch.Tensor]] | None = None
        self.has_stopped = False

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resumption needs.

        Returns:
            `dict[str, Any]`: what the guard compares with and would put back, and the fixed prompts.
        """
        return {"start": self.start, "kept": self.kept, "prompts": self.fixed.prompts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what the guard compares with.

        Args:
            state (`dict[str, Any]`):
                What [`~SampleVideosCallback.state_dict`] returned.

        Raises:
            ValueError: If prompts or monitors are others now.
        """
        if state["start"] is None or self.trainer.args.guard_steps is None:
            return
        built_in = {TRAINED_REWARD, *([MOTION] if self.trainer.args.monitor_motion else [])}
        now = {"fixed prompts": self.fixed.prompts, "monitors": sorted(built_in | {t.name for t in self.monitors})}
        before = {"fixed prompts": state["prompts"], "monitors": sorted(state["start"])}
        for name, value in now.items():
            if value != before[name]:
                raise ValueError(
                    f"The checkpoint's guard had the {name} {before[name]}: got {value}. Resume with the same, for "
                    "it compares with the scores at the start."
                )
        self.start, self.kept = state["start"], state["kept"]

    def on_train_begin(self, args: DRaFTVConfig, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Sample before the first step; a resumed run keeps the start that its checkpoint holds.

        Args:
            args (`DRaFTVConfig`):
                The run's settings.
            state (`TrainerState`):
                Where the run stands.
            control (`TrainerControl`):
                Not used.
            kwargs:
                Not used.
        """
        self.has_stopped = False
        write = args.sample_steps is not None and state.global_step == 0
        judge = args.guard_steps is not None and (state.global_step == 0 or self.start is None)
        if write or judge:
            scores = self._visit(state.global_step, write, judge)
            if judge:
                self.start, self.kept = scores, (state.global_step, self.trainer.copy_weights())

    def on_step_end(self, args: DRaFTVConfig, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Sample when it is time, and stop the run when a monitor has fallen while the reward rose.

        Args:
            args (`DRaFTVConfig`):
                The run's settings.
            state (`TrainerState`):
                Where the run stands.
            control (`TrainerControl`):
                Told to stop.
            kwargs:
                Not used.
        """
        write = args.sample_steps is not None and state.global_step % args.sample_steps == 0
        is_last = state.global_step >= state.max_steps  # what is saved at the end is looked at, too
        judge = args.guard_steps is not None and (state.global_step % args.guard_steps == 0 or is_last)
        if not (write or judge):
            return
        scores = self._visit(state.global_step, write, judge)
        if judge and self.start is not None and self.kept is not None:
            if is_sound(self.start, scores):
                self.kept = (state.global_step, self.trainer.copy_weights())
            falls = find_falls(self.start, scores, args.guard_tolerance)
            if falls:
                control.should_training_stop = True
                kept_step, weights = self.kept
                self.trainer.put_back(weights)
                # The best by the reward that is hacked: load_best_model_at_end must not load it.
                state.best_model_checkpoint = None
                self.has_stopped = True
                self._log({"guard_kept_step": kept_step})
                before, now = fmean(self.start[TRAINED_REWARD]), fmean(scores[TRAINED_REWARD])
                logger.error(
                    "Stopping at step %d: %s, while the trained reward rose from %.4g to %.4g on the same prompts: it "
                    "is being exploited. The LoRA of step %d is back, the last at which no monitor was below its "
                    "start. Train with reward_augmentation, reference_coef or a lower learning_rate; or raise "
                    "guard_tolerance (%.2g).",
                    *(state.global_step, "; ".join(map(str, falls)), before, now, kept_step, args.guard_tolerance),
                )

    def _visit(self, step: int, write: bool, judge: bool) -> dict[str, list[float]]:
        """Sample all fixed prompts over all processes; write the videos, log and return the scores."""
        accelerator: Accelerator = self.trainer.accelerator
        found: list[tuple[int, torch.Tensor | None, dict[str, float]]] = []
        positions = list(range(len(self.fixed.prompts)))
        # Padded: a sharded denoiser needs every process at every call.
        with accelerator.split_between_processes(positions, apply_padding=True) as share, torch.no_grad():
            with self.trainer.published_weights(), accelerator.autocast():
                for position in share:
                    clip_BTCHW = self._sample(position)
                    scores = self._score(position, clip_BTCHW) if judge else {}
                    found.append((position, to_bytes(clip_BTCHW[0]).cpu() if write else None, scores))
        by_position = {position: (frames, scores) for position, frames, scores in gather_object(found)}
        if write and self.trainer.is_world_process_zero():
            self._write(step, {position: frames for position, (frames, _) in by_position.items()})
        if not judge:
            return {}
        names = by_position[0][1].keys()
        scores_by_name = {name: [by_position[position][1][name] for position in positions] for name in names}
        for name, values in scores_by_name.items():  # after gathering, so that no process waits for one that raised
            for prompt, value in zip(self.fixed.prompts, values, strict=True):
                if not isfinite(value):
                    raise ValueError(
                        f"The guard needs finite values: got {value} from {name} at step {step} for the prompt "
                        f"{prompt!r}. Mend that reward, or look at the sample video: a clip may not be finite."
                    )
        self._log({f"monitor/{name}": fmean(values) for name, values in scores_by_name.items()})
        return scores_by_name

    def _log(self, values: dict[str, float]) -> None:
        """Log, and give again the order to log this step's loss, which logging takes back."""
        should_log = self.trainer.control.should_log
        self.trainer.log(values)
        self.trainer.control.should_log = should_log

    def _sample(self, position: int) -> torch.Tensor:
        """Sample one clip, (1, T, 3, H, W), with noise that depends on the run's seed and the place alone."""
        rollout: RewardRollout = self.trainer.model
        settings = rollout.settings
        seed = noise_seed(self.trainer.args.seed, 0, position)
        prompts, _ = self.fixed.row(position)
        # In as little memory as in training, but every frame.
        with reward_decoding(rollout.pipe, checkpointing=settings.vae_checkpointing, tiling=settings.vae_tiling):
            return sample(
                rollout.pipe,
                prompts,
                num_inference_steps=settings.num_inference_steps,
                generator=[torch.Generator("cpu").manual_seed(seed)],
                **settings.pipeline_kwargs,
            )

    def _score(self, position: int, clip_BTCHW: torch.Tensor) -> dict[str, float]:
        """Score one clip by the trained reward and every monitor."""
        rollout: RewardRollout = self.trainer.model
        prompts, columns = self.fixed.row(position)
        clip_BTCHW = clip_BTCHW.float()
        seen_BTCHW = spread_frames(clip_BTCHW, rollout.settings.reward_num_frames)
        scores = {TRAINED_REWARD: score_frames(rollout.terms, seen_BTCHW, prompts, columns).total.item()}
        if self.monitors:
            rewards = score_frames(self.monitors, seen_BTCHW, prompts, columns).rewards
            scores |= {term.name: row.item() for term, row in zip(self.monitors, rewards, strict=True)}
        if self.trainer.args.monitor_motion:
            scores[MOTION] = mean_motion(clip_BTCHW).item()
        return scores

    def _write(self, step: int, frames_by_position: Mapping[int, torch.Tensor | None]) -> None:
        """Write the videos of one step and report them."""
        args = self.trainer.args
        videos = [
            SampleVideo(position, self.fixed.prompts[position], frames)
            for position, frames in sorted(frames_by_position.items())
            if frames is not None
        ]
        paths = write_samples(videos, Path(args.output_dir) / "samples" / f"step-{step}", args.sample_fps)
        report_samples(videos, paths, self.trainer.callback_handler.callbacks, step, args.sample_fps)


class SkipNonFiniteCallback(TrainerCallback):
    """Skip updates whose gradients are not finite, count them, and end the run when there are too many.

    Gradients are the same on all processes by then, and so is the decision. Weights, the optimiser's moments and its
    own step count stay as they are; the learning rate's schedule goes on.

    Args:
        parameters (`list[torch.nn.Parameter]`):
            The weights that are trained.
        max_steps (`int`):
            How many skipped updates are tolerated.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], max_steps: int) -> None:
        self.parameters = list(parameters)
        self.max_steps = max_steps
        self.num_skipped = 0

    def on_pre_optimizer_step(
        self, args: DRaFTVConfig, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the gradients before they are used.

        Args:
            args (`DRaFTVConfig`):
                Not used.
            state (`TrainerState`):
                Where the run stands.
            control (`TrainerControl`):
                Not used.
            kwargs:
                Holds the `optimizer`.

        Raises:
            RuntimeError: If more updates had to be skipped than are tolerated.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if torch.nn.utils.get_total_norm(gradients).isfinite():
            return
        self.num_skipped += 1
        logger.warning("Skipped the update of step %d: its gradient is not finite.", state.global_step + 1)
        # With fp16 the loss scaler skips the step itself, and needs to see the gradients for that.
        if kwargs["optimizer"].scaler is None:
            for parameter in self.parameters:
                parameter.grad = None
        if self.num_skipped > self.max_steps:
            raise RuntimeError(
                f"{self.num_skipped} updates up to step {state.global_step + 1} were not finite: at most "
                f"max_nonfinite_steps={self.max_steps} are skipped. Look at the rewards in the log, lower the "
                "learning_rate, or run the denoiser in bfloat16 instead of float16."
            )


class RewardProgressCallback(ProgressCallback):
    """Trainer's progress bar, with the reward at its end.

    Args:
        write_logs (`bool`, defaults to `True`):
            Whether to write all that is logged above the bar, as Trainer does.
    """

    def __init__(self, write_logs: bool = True) -> None:
        super().__init__()
        self.write_logs = write_logs

    def on_log(
        self,
        args: DRaFTVConfig,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest reward.

        Args:
            args (`DRaFTVConfig`):
                As for Trainer's own.
            state (`TrainerState`):
                As for Trainer's own.
            control (`TrainerControl`):
                As for Trainer's own.
            logs (`dict[str, float]`, *optional*):
                What is logged.
            kwargs:
                As for Trainer's own.
        """
        if self.write_logs:
            super().on_log(args, state, control, logs=logs, **kwargs)
        if self.training_bar is not None and logs is not None and "reward" in logs:
            self.training_bar.set_postfix(reward=f"{logs['reward']:.4g}")
