"""A table of videos and prompts to a table of scores, on one process or on many.

Under `accelerate launch` the rows are dealt to the processes round by round and gathered by the main one, which alone
writes: the output needs no file system that the machines share.
"""

import hashlib
import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm
from transformers import AutoProcessor

from videorm_hf.models.sources import VIDEORM_FILES, find_source
from videorm_hf.models.videorm.modeling_videorm import VideoRMModel
from videorm_hf.models.videorm.processing_videorm import VideoRMProcessor
from videorm_hf.rewards.base import frames_to_score
from videorm_hf.scoring.decode_pool import default_num_workers
from videorm_hf.scoring.journal import append_rows, begin_output, finish_output, weights_fingerprint
from videorm_hf.scoring.records import ScoringStats
from videorm_hf.scoring.scorer import iter_scores, load_model, place
from videorm_hf.scoring.tables import SCORE_COLUMNS, Row

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringOptions:
    """How a table is scored.

    Args:
        batch_size (`int`): Videos in one forward pass.
        num_frames (`int`, *optional*): Frames sampled from each video; the processor's number by default.
        num_workers (`int`, *optional*): Decoding processes of each process; all cores but one by default.
        timeout (`float`, *optional*): Seconds that decoding one video may take.
        device (`str`, *optional*): Where the model runs; the GPU if there is one by default.
        dtype (`str`, *optional*): Precision of the weights; the checkpoint's by default.
    """

    batch_size: int = 8
    num_frames: int | None = None
    num_workers: int | None = None
    timeout: float | None = 120.0
    device: str | None = None
    dtype: str | None = None


def score_table(
    model_id: str,
    pairs: list[Row],
    output: Path | None = None,
    *,
    folder: Path = Path(),
    options: ScoringOptions = ScoringOptions(),
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Row]:
    """Score every row of a table and write the table with its scores.

    Args:
        model_id (`str`): Folder or Hub id of a VIDEORM.
        pairs (`list[dict]`): Rows with `video` and `prompt`, and whatever else is to be kept.
        output (`Path`, *optional*): A `.jsonl`, `.csv` or `.parquet` file.
        folder (`Path`): Where relative video paths start.
        options ([`ScoringOptions`]): How to score.
        resume (`bool`, defaults to `False`): Continue an output that was interrupted.
        overwrite (`bool`, defaults to `False`): Replace an output that exists.
        progress (`bool`, defaults to `True`): Show a progress bar.
    Returns:
        `list[dict]`: all rows with `reward`, `error` and `message`; on processes other than the main one, none.
    Raises:
        ValueError: If the model has no positions for so many frames, or the output cannot be begun or continued.
    """
    state = PartialState(cpu=options.device == "cpu")
    model_id = find_source(model_id, "A VIDEORM", VIDEORM_FILES)
    model = load_model(model_id, device="cpu", dtype=options.dtype)
    frames_to_score(model.config, options.num_frames)  # before anything is written
    processor = AutoProcessor.from_pretrained(model_id)
    done, problem = [], None
    if state.is_main_process and output is not None:
        try:
            done = begin_output(output, _settings(model_id, model, processor, options), pairs, resume, overwrite)
        except ValueError as error:
            problem = str(error)
    start, problem = broadcast_object_list([len(done), problem])
    if problem is not None:
        raise ValueError(problem)

    place(model, options.device or state.device, None)
    rounds = _score_rounds(model, processor, pairs[start:], folder, options, state)
    is_hidden = not (progress and state.is_main_process)
    with tqdm(total=len(pairs), initial=start, desc="scoring", unit="video", disable=is_hidden) as bar:
        for rows in rounds:
            bar.update(len(rows))
            if state.is_main_process and output is not None:
                append_rows(output, rows)
            elif state.is_main_process:
                done.extend(rows)
    if not state.is_main_process:
        return []
    return done if output is None else finish_output(output)


def _settings(
    model_id: str, model: VideoRMModel, processor: VideoRMProcessor, options: ScoringOptions
) -> dict[str, Any]:
    """Return what must be the same for two rows' scores to be comparable."""
    return {
        "model": os.path.abspath(model_id) if os.path.isdir(model_id) else model_id,
        "weights": weights_fingerprint(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "num_frames": options.num_frames or processor.video_processor.num_frames,
        "configuration": hashlib.sha256(
            (model.config.to_json_string() + processor.video_processor.to_json_string()).encode()
        ).hexdigest(),
    }


def _score_rounds(
    model: VideoRMModel,
    processor: VideoRMProcessor,
    pairs: list[Row],
    folder: Path,
    options: ScoringOptions,
    state: PartialState,
) -> Iterator[list[Row]]:
    """Yield scored rows in input order, on every process the same ones."""
    share = options.batch_size if state.num_processes > 1 else 1
    stride = share * state.num_processes
    mine = [row for first in range(0, len(pairs), stride) for row in _share(pairs, first, share, state)]
    num_workers = options.num_workers
    if num_workers is None:
        num_workers = max(1, default_num_workers() // state.num_processes)
    stats = ScoringStats()
    scores = iter_scores(
        model,
        [str(folder / row["video"]) for row in mine],
        [row["prompt"] for row in mine],
        processor=processor,
        batch_size=options.batch_size,
        num_frames=options.num_frames,
        num_workers=num_workers,
        timeout=options.timeout,
        stats=stats,
    )
    scored = (row | _result(asdict(score)) for row, score in zip(mine, scores, strict=True))
    for first in range(0, len(pairs), stride):
        rows = list(itertools.islice(scored, len(_share(pairs, first, share, state))))
        yield gather_object(rows)
    logger.info("waited %.1f s of %.1f s for decoding", stats.decode_wait_s, stats.total_s)


def _share(pairs: list[Row], first: int, share: int, state: PartialState) -> list[Row]:
    """Return this process's part of the round that begins at row `first`."""
    mine = first + state.process_index * share
    return pairs[mine : mine + share]


def _result(score: dict[str, Any]) -> Row:
    return {column: score[column] for column in SCORE_COLUMNS[2:]}
