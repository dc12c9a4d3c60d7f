"""VideoAnnotator: asks a judge about every video of a data set.

Wu et al. 2024 (NeurIPS), Sec. 3.1: one call per video and dimension, a rating from 1 to 5 with a rationale.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from videorm_hf.annotation.calls import (
    CallFinder,
    Key,
    Plan,
    check_same_judge,
    check_same_question,
    key_of,
    plan_calls,
)
from videorm_hf.annotation.journal import Journal, read_records
from videorm_hf.annotation.messages import build_messages, text_length
from videorm_hf.annotation.options import AnnotationOptions
from videorm_hf.annotation.rubrics import Rubric, load_rubric
from videorm_hf.annotation.run import AnnotationSummary, Run
from videorm_hf.annotation.spending import Spending
from videorm_hf.videoprefer.items import Item


@dataclass(frozen=True)
class Forecast:
    """What a run would ask for, before anything is spent.

    Args:
        num_calls (`int`): Calls that would be sent.
        num_before (`int`): Calls that have a record and would not be.
        num_failed_before (`int`): Those among them whose record has no rating or verdict.
        input_tokens (`float`): Expected, of all requests.
        max_output_tokens (`int`): Upper bound, of all replies.
        max_cost (`float`, *optional*): Upper bound by the prices given; `None` without prices.
        is_measured (`bool`): Whether the request's size is a mean of earlier calls rather than a rule of thumb.
    """

    num_calls: int
    num_before: int
    num_failed_before: int
    input_tokens: float
    max_output_tokens: int
    max_cost: float | None
    is_measured: bool


class VideoAnnotator:
    """Rates the videos of a data set with a multimodal judge.

    Args:
        options ([`AnnotationOptions`]): Which judge, how it is asked, and the limits.
        rubrics (`Sequence[Rubric]`, *optional*): What is asked; the package's rubrics by default.

    Example:

    ```python
    >>> from videorm_hf.annotation import AnnotationOptions, VideoAnnotator
    >>> from videorm_hf.videoprefer.working_folder import read_items

    >>> options = AnnotationOptions(model="Qwen2.5-VL-7B-Instruct", base_url="http://localhost:8000/v1")
    >>> items = list(read_items("videoprefer", ratings=()))
    >>> summary = VideoAnnotator(options).run(items, "videoprefer", "videoprefer/ratings.jsonl")
    ```
    """

    def __init__(self, options: AnnotationOptions, rubrics: Sequence[Rubric] | None = None) -> None:
        self.options = options
        if rubrics is None:
            rubrics = [load_rubric(name, options.mode, options.rubric_version) for name in options.dimensions]
        self.rubrics = tuple(rubrics)

    def forecast(self, items: Sequence[Item], output: str | Path, *, retry_failures: bool = False) -> Forecast:
        """Count the calls, tokens and cost of a run without asking or writing anything.

        Args:
            items (`Sequence[Item]`): Prompts with their videos.
            output (`str` or `Path`): The journal.
            retry_failures (`bool`, defaults to `False`): Ask again what has failed.

        Returns:
            [`Forecast`]
        """
        spending = Spending(self.options)
        plan = self._plan(items, Path(output), spending, retry_failures)
        tokens = 0.0
        for call in (call for group in plan.groups() for call in group):
            messages = build_messages(call.rubric, call.item.prompt, [[] for _ in call.candidates], "text")
            images = self.options.num_frames * len(call.candidates)
            tokens += spending.expected_input(text_length(messages), images)
        replies = plan.num_open * self.options.max_tokens
        cost = self.options.cost(tokens, replies) if self.options.has_prices else None
        is_measured = spending.num_counted > 0
        return Forecast(plan.num_open, len(plan.done), plan.num_failed, tokens, replies, cost, is_measured)

    def run(
        self,
        items: Sequence[Item],
        folder: str | Path,
        output: str | Path,
        *,
        retry_failures: bool = False,
        progress: bool = True,
    ) -> AnnotationSummary:
        """Ask everything that has no record yet.

        An interrupt (Ctrl-C) ends the run once the calls under way are written down, a second one ends it at once.
        Where an event loop runs already, as in a notebook, the run has a thread and a loop of its own.

        Args:
            items (`Sequence[Item]`): Prompts with their videos.
            folder (`str` or `Path`): Where relative video paths start.
            output (`str` or `Path`): The journal, which is a rating file; continued if it exists.
            retry_failures (`bool`, defaults to `False`): Ask again what has failed.
            progress (`bool`, defaults to `True`): Show a progress bar.

        Returns:
            [`AnnotationSummary`]

        Raises:
            ValueError: If a candidate's video is not a path.
        """
        for item in items:
            for candidate in item.candidates:
                if not isinstance(candidate.video, str | os.PathLike):
                    raise ValueError(
                        f"Candidate {candidate.candidate_id!r} of item {item.item_id!r} has no video file."
                    )
        output = Path(output)
        with Journal(output) as journal:
            spending = Spending(self.options)
            plan = self._plan(items, output, spending, retry_failures)
            run = Run(self.options, plan, Path(folder), journal, spending)
            return _execute_in_a_thread(run, progress) if _is_in_a_loop() else asyncio.run(run.execute(progress))

    def _plan(self, items: Sequence[Item], output: Path, spending: Spending, retry_failures: bool) -> Plan:
        """Compare what the data set needs with what the journal holds."""
        is_pairwise = self.options.mode == "pairwise"
        find = CallFinder(items, self.rubrics, is_pairwise)
        has_failed: dict[Key, bool] = {}
        for record in read_records(output):
            check_same_judge(record, self.options, output)
            call = find(key_of(record))
            if call is not None:
                check_same_question(record, call, self.options, output)
                has_failed[call.key] = record.get("rating", record.get("verdict")) is None
            if "reply" in record:
                num_images = self.options.num_frames * len(record.get("videos", ()))
                spending.count(record, spending.expected_input(0, num_images))
        done = frozenset(key for key, failed in has_failed.items() if not (failed and retry_failures))
        num_calls = sum(len(group) for group in plan_calls(items, self.rubrics, is_pairwise))
        num_failed = sum(has_failed[key] for key in done)
        return Plan(items, self.rubrics, is_pairwise, done, num_calls - len(done), num_failed)


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _execute_in_a_thread(run: Run, progress: bool) -> AnnotationSummary:
    """Execute a run beside this thread's loop; interrupts, which come to this thread, are passed on."""
    # In this order: the thread is waited for, whatever happens, before its loop and the journal are closed.
    with closing(asyncio.new_event_loop()) as loop, ThreadPoolExecutor(1, thread_name_prefix="annotator") as thread:
        task = loop.create_task(run.execute(progress))
        finished = thread.submit(loop.run_until_complete, task)
        try:
            return finished.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(run.stop, "interrupted")
            return finished.result()
        finally:
            loop.call_soon_threadsafe(task.cancel)  # does nothing unless a second interrupt leads here
