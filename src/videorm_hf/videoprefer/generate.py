"""Candidate videos for prompts: each process loads each pipeline once and writes its share of that model's videos.

What is done, or failed and why, is appended to a journal as it happens: a run continues where it was interrupted. The
one place of `videorm_hf` that imports diffusers.
"""

import dataclasses
import hashlib
import inspect
import json
import logging
import os
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import DiffusionPipeline
from tqdm.auto import tqdm

from videorm_hf.models.dtypes import DTYPES
from videorm_hf.models.sources import PIPELINE_FILES, find_source, loading
from videorm_hf.videoprefer.json_lines import read_lines, write_lines
from videorm_hf.videoprefer.model_pool import CandidatePlan, ModelPool, PoolModel, draw_candidates
from videorm_hf.videoprefer.video_io import write_video
from videorm_hf.videoprefer.working_folder import ITEMS_FILE, PROMPTS_FILE

logger = logging.getLogger(__name__)

JOURNAL_FOLDER = "generation"
SETTINGS_FILE = f"{JOURNAL_FOLDER}/settings.json"
VIDEO_FOLDER = "videos/generated"

# What pipelines of diffusers call their number of frames.
_FRAMES_ARGUMENTS = ("num_frames", "video_length")

Key = tuple[str, str]  # item_id, candidate_id


@dataclass(frozen=True)
class GenerationCounts:
    """What became of the candidates that are to be generated.

    Args:
        num_generated (`int`): Videos that are there.
        num_failed (`int`): Candidates that failed, each with its reason in the journal.
        num_items (`int`): Lines of `items.jsonl`.
    """

    num_generated: int
    num_failed: int
    num_items: int


def generate_candidates(
    folder: str | os.PathLike[str],
    pool: ModelPool,
    seed: int = 0,
    *,
    device: str | None = None,
    retry_failed: bool = False,
    progress: bool = True,
) -> GenerationCounts | None:
    """Generate the candidates of every prompt in `prompts.jsonl` and write `items.jsonl`.

    Run under `accelerate launch`, every process takes its share. A folder without prompts, or with items that are not
    from here, is an `OSError`; no line, a faulty one, or a folder that has videos of another pool or seed, a
    `ValueError`.

    Args:
        folder (`str` or `os.PathLike`): The working folder.
        pool ([`ModelPool`]): What candidates are drawn from.
        seed (`int`, defaults to 0): Of the draw and of the noise.
        device (`str`, *optional*): Where pipelines run; each process's own GPU if there is one.
        retry_failed (`bool`, defaults to `False`): Try again what failed before.
        progress (`bool`, defaults to `True`): Show a progress bar.

    Returns:
        [`GenerationCounts`]: on the main process; `None` on others.
    """
    folder = Path(folder)
    state = PartialState(cpu=device == "cpu")
    prompts = _read_prompts(folder)
    if state.is_main_process:
        _begin(folder, pool, seed)
    state.wait_for_everyone()
    plans = {
        item_id: draw_candidates(item_id, record.get("real_video") is not None, pool, seed)
        for item_id, record in prompts.items()
    }
    done = {key: record for key, record in read_journal(folder).items() if not (retry_failed and record["failure"])}
    tasks = {model.name: _share(plans, model, done, state) for model in pool.models}
    bar = tqdm(total=sum(map(len, tasks.values())), desc="generating", unit="video", disable=not progress or None)
    with bar, _open_journal(folder, state.process_index) as journal:
        for model in pool.models:
            if not tasks[model.name]:
                continue
            pipe = load_pipeline(model, device or state.device)
            for item_id, plan in tasks[model.name]:
                record = _attempt(pipe, plan, item_id, prompts[item_id]["prompt"], folder)
                journal.write(json.dumps(record, ensure_ascii=False) + "\n")
                journal.flush()
                bar.update()
            del pipe  # before the next one is loaded
    state.wait_for_everyone()
    return write_items(folder, prompts, plans) if state.is_main_process else None


def load_pipeline(model: PoolModel, device: str | torch.device) -> DiffusionPipeline:
    """Load a pipeline of the pool and check that it takes what it will be called with.

    Args:
        model ([`PoolModel`]): Which one.
        device (`str` or `torch.device`): Where it runs.

    Returns:
        `diffusers.DiffusionPipeline`

    Raises:
        ValueError: If its call lacks an argument.
    """
    source = find_source(model.pipeline, f"The pipeline of {model.name}", PIPELINE_FILES)
    with loading(source):
        pipe = DiffusionPipeline.from_pretrained(source, dtype=DTYPES[model.dtype], **model.load)
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    _, *taken = inspect.signature(type(pipe).__call__).parameters
    missing = [name for name in _arguments(model, CandidatePlan("", model), "") if name not in taken]
    if missing:
        raise ValueError(
            f"{model.name}: {type(pipe).__name__} takes no {', '.join(missing)}; its call takes {', '.join(taken)}. "
            f"Name its own with {_advice(missing, model, taken)}."
        )
    return pipe


def _advice(missing: list[str], model: PoolModel, taken: list[str]) -> str:
    """Say how the pool names the arguments; where one of the call's looks like the missing one, with its name."""
    alike = next((name for name in taken if name in _FRAMES_ARGUMENTS), None)
    if missing == [model.frames_argument] and alike is not None:
        return f"frames_argument: {alike}"
    return "guidance_argument, frames_argument or call"


def read_journal(folder: Path) -> dict[Key, dict[str, Any]]:
    """Return what is known of each candidate that was tried; half-written lines count for nothing.

    Args:
        folder (`Path`): The working folder.

    Returns:
        `dict`: `(item_id, candidate_id)` to its last record; one whose video is gone is left out.
    """
    records: dict[Key, dict[str, Any]] = {}
    for path in sorted((folder / JOURNAL_FOLDER).glob("*.jsonl")):
        for line in read_lines(path):
            if line.record is None or line.problem is not None:
                continue
            key = line.record["item_id"], line.record["candidate_id"]
            # A success stands, whichever process's file it is in; of failures the last one.
            if key not in records or records[key]["failure"] is not None:
                records[key] = line.record
    return {
        key: record
        for key, record in records.items()
        if record["failure"] is not None or (folder / record["video"]).is_file()
    }


def write_items(
    folder: Path, prompts: dict[str, dict[str, Any]], plans: dict[str, list[CandidatePlan]]
) -> GenerationCounts:
    """Write `items.jsonl` from the journal: items all of whose candidates were tried, with those that succeeded.

    Args:
        folder (`Path`): The working folder.
        prompts (`dict`): `item_id` to its line of `prompts.jsonl`.
        plans (`dict`): `item_id` to its candidates.

    Returns:
        [`GenerationCounts`]
    """
    journal = read_journal(folder)
    items = list(_items(prompts, plans, journal))
    write_lines(iter(items), folder / ITEMS_FILE)
    num_failed = sum(record["failure"] is not None for record in journal.values())
    return GenerationCounts(len(journal) - num_failed, num_failed, len(items))


def _items(
    prompts: dict[str, dict[str, Any]], plans: dict[str, list[CandidatePlan]], journal: dict[Key, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    for item_id, record in prompts.items():
        tried = [(plan, journal.get((item_id, plan.candidate_id))) for plan in plans[item_id]]
        if any(plan.model is not None and entry is None for plan, entry in tried):
            continue  # not finished
        candidates = [
            {
                "candidate_id": plan.candidate_id,
                "video": record["real_video"] if entry is None else entry["video"],
                "model": record["prompt_source"] if entry is None else entry["model"],
                "is_real": entry is None,
                "guidance_scale": None if entry is None else entry["guidance_scale"],
                "seed": None if entry is None else entry["seed"],
            }
            for plan, entry in tried
            if entry is None or entry["failure"] is None
        ]
        names = ("item_id", "prompt", "prompt_source")
        yield {name: record[name] for name in names} | {"candidates": candidates}


def _read_prompts(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / PROMPTS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}: write it with `videoprefer collect`, or a line of your own for each prompt with "
            "item_id, prompt and prompt_source"
        )
    prompts: dict[str, dict[str, Any]] = {}
    for line in read_lines(path):
        record = line.record or {}
        if line.problem is not None or any(
            not isinstance(record.get(name), str) or not record[name]
            for name in ("item_id", "prompt", "prompt_source")
        ):
            reason = line.problem.message if line.problem else "item_id, prompt and prompt_source must be text"
            raise ValueError(f"{line.place}: {reason}")
        if record["item_id"] in prompts:
            raise ValueError(f"{line.place}: {record['item_id']!r} stands there twice")
        prompts[record["item_id"]] = record
    if not prompts:
        raise ValueError(f"{path} is empty: it must have a line for each prompt, with item_id, prompt, prompt_source.")
    return prompts


def _begin(folder: Path, pool: ModelPool, seed: int) -> None:
    """Record pool and seed, or check that they are those of the run that is continued, once it has made a video."""
    settings = json.loads(json.dumps({"seed": seed, "pool": dataclasses.asdict(pool)}))
    path = folder / SETTINGS_FILE
    if path.exists():
        differences = list(_differences(json.loads(path.read_text(encoding="utf-8")), settings))
        if not differences:
            return
        if _has_made(folder):
            raise ValueError(
                f"{folder} was begun with another pool or seed ({'; '.join(differences)}): go on with those "
                f"in {path}, or use another folder."
            )
        for journal in (folder / JOURNAL_FOLDER).glob("*.jsonl"):  # its failures are those of the other pool
            journal.unlink()
    elif (folder / ITEMS_FILE).exists():
        raise FileExistsError(f"{folder / ITEMS_FILE} exists and is not from here: use another folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _has_made(folder: Path) -> bool:
    """Tell whether there is a video, or the record of one."""
    records = (line.record or {} for path in (folder / JOURNAL_FOLDER).glob("*.jsonl") for line in read_lines(path))
    videos = (folder / VIDEO_FOLDER).rglob("*.mp4")
    return any(record.get("failure", "torn") is None for record in records) or any(
        path.suffixes == [".mp4"] for path in videos
    )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Yield what differs between two settings by its place, such as `pool.models[0].fps`, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(*pair, f"{name}[{place}]")
    elif old != new:
        yield f"{name} was {reprlib.repr(old)}, is {reprlib.repr(new)}"


def _share(
    plans: dict[str, list[CandidatePlan]], model: PoolModel, done: dict[Key, Any], state: PartialState
) -> list[tuple[str, CandidatePlan]]:
    """Return what this process has to generate with a model.

    All is dealt before what is done is taken out, so that processes that look at the journal at different times agree.
    """
    all_tasks = [(item_id, plan) for item_id, planned in plans.items() for plan in planned if plan.model is model]
    mine = all_tasks[state.process_index :: state.num_processes]
    return [(item_id, plan) for item_id, plan in mine if (item_id, plan.candidate_id) not in done]


def _open_journal(folder: Path, process_index: int) -> Any:
    """Open this process's journal for appending, after ending a line that an interruption tore."""
    path = folder / JOURNAL_FOLDER / f"{process_index:05d}.jsonl"
    is_torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    journal = path.open("a", encoding="utf-8")
    if is_torn:
        journal.write("\n")
    return journal


def _attempt(pipe: DiffusionPipeline, plan: CandidatePlan, item_id: str, prompt: str, folder: Path) -> dict[str, Any]:
    """Generate one candidate; return its record."""
    model = plan.model
    name = hashlib.sha256(item_id.encode("utf-8")).hexdigest()[:16]
    record: dict[str, Any] = {
        "item_id": item_id,
        **{name: value for name, value in vars(plan).items() if name != "model"},
        "model": model.name if model else None,
        "video": f"{VIDEO_FOLDER}/{name[:2]}/{name}-{plan.candidate_id}.mp4",
        "failure": None,
    }
    try:
        _generate(pipe, plan, prompt, folder / record["video"])
    except Exception as error:  # noqa: BLE001 - whatever a pipeline raises, it costs one candidate, and is recorded
        logger.warning("%s, candidate %s (%s) failed: %s", item_id, plan.candidate_id, record["model"], error)
        record["failure"] = f"{type(error).__name__}: {error}"
    return record


def _generate(pipe: DiffusionPipeline, plan: CandidatePlan, prompt: str, path: Path) -> None:
    """Write one video, whole or not at all; one that an interrupted run wrote but did not record is taken."""
    if plan.model is None:
        raise ValueError("a real clip is not generated")
    if path.is_file():
        return
    generator = torch.Generator("cpu").manual_seed(plan.seed)
    frames_TCHW = pipe(**_arguments(plan.model, plan, prompt), generator=generator, output_type="pt").frames[0]
    if not torch.isfinite(frames_TCHW).all():
        raise ValueError("the frames are not finite; try another dtype")
    unfinished = path.with_name(f"{path.stem}.unfinished.mp4")
    write_video(frames_TCHW, unfinished, plan.model.fps)
    os.replace(unfinished, path)


def _arguments(model: PoolModel, plan: CandidatePlan, prompt: str) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "height": plan.height,
        "width": plan.width,
        "num_inference_steps": plan.num_inference_steps,
        model.guidance_argument: plan.guidance_scale,
        model.frames_argument: model.num_frames,
        **model.call,
    }
