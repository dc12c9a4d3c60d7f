"""`VideoPrefer`: a working folder as a `datasets` builder, in either view, streamed or prepared as Arrow.

Rows are made while the folder is read; memory never holds the set. The paths in the rows are those of the folder's
files.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import datasets

from videorm_hf.videoprefer.bad_data import BadDataError, Report
from videorm_hf.videoprefer.features import (
    RATINGS,
    VIEWS,
    preference_features,
    preference_row,
    ratings_features,
    ratings_row,
)
from videorm_hf.videoprefer.items import DIMENSIONS, Item
from videorm_hf.videoprefer.pairs import MEAN, PreferencePair, make_preference_pairs, rated_dimensions
from videorm_hf.videoprefer.splits import FRACTIONS, assign_splits, check_fractions
from videorm_hf.videoprefer.video_checks import VideoChecks
from videorm_hf.videoprefer.working_folder import ITEMS_FILE, NUM_CANDIDATES, PROMPTS_FILE, RATINGS_FILE, WorkingFolder

logger = logging.getLogger(__name__)


@dataclass
class VideoPreferConfig(datasets.BuilderConfig):
    """How a working folder becomes a data set.

    Args:
        data_dir (`str`): The working folder.
        ratings (`tuple[str, ...]`, *optional*): Rating files, relative to the folder; `ratings.jsonl` by default.
        num_candidates (`int`, *optional*, defaults to 4): Candidates of an item; `None` for any two or more.
        dimensions (`tuple[str, ...]`): Rated dimensions that the `ratings` view shows.
        pair_dimensions (`tuple[str, ...]`, defaults to `("mean",)`): What pairs are made on, each on its own.
        ties (`"drop"` or `"keep"`, defaults to `"drop"`): What becomes of equal ratings.
        min_margin (`float`, defaults to 0.0): Least difference of the ratings of a pair that is no tie.
        fractions (`dict[str, float]`): Split to its share; see [`assign_splits`].
        seed (`int`, defaults to 0): Of the splits.
        check_videos (`bool`, defaults to `True`): Decode a frame of every video that was not checked before.
        num_workers (`int`, *optional*): Processes that decode for the check.
        strict (`bool`, defaults to `False`): Raise [`BadDataError`] instead of setting faulty items aside.
    """

    ratings: tuple[str, ...] | None = None
    num_candidates: int | None = NUM_CANDIDATES
    dimensions: tuple[str, ...] = DIMENSIONS
    pair_dimensions: tuple[str, ...] = (MEAN,)
    ties: Literal["drop", "keep"] = "drop"
    min_margin: float = 0.0
    fractions: dict[str, float] = field(default_factory=lambda: dict(FRACTIONS))
    seed: int = 0
    check_videos: bool = True
    num_workers: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fractions(self.fractions)
        unknown = set(self.pair_dimensions) - {MEAN, *self.dimensions}
        if unknown or not self.pair_dimensions:
            raise ValueError(
                f"pair_dimensions must be among {MEAN}, {', '.join(self.dimensions)}, got {self.pair_dimensions}."
            )

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """Name the cache folder after the settings and the folder's tables, so that a changed folder is read again.

        Args:
            config_kwargs (`dict`): The settings that were given.
            custom_features (`datasets.Features`, *optional*): Other columns.

        Returns:
            `str`: the name.
        """
        folder = Path(config_kwargs.get("data_dir") or self.data_dir or "")
        names = [ITEMS_FILE, PROMPTS_FILE, *(self.ratings or (RATINGS_FILE,))]
        tables = [os.stat(folder / name) for name in names if (folder / name).is_file()]
        state = repr([(table.st_size, table.st_mtime_ns) for table in tables])
        config_kwargs = {**config_kwargs, "tables": hashlib.sha256(state.encode()).hexdigest()}
        return super().create_config_id(config_kwargs, custom_features)

    def open(self, progress: bool = True) -> WorkingFolder:
        """Open the folder, after checking its videos if `check_videos` is set.

        Args:
            progress (`bool`, defaults to `True`): Show a progress bar.

        Returns:
            [`WorkingFolder`]

        Raises:
            ValueError: If there is no `data_dir`.
        """
        if self.data_dir is None:
            raise ValueError('VideoPrefer needs its working folder: VideoPrefer("preference", data_dir="folder").')
        folder = WorkingFolder(self.data_dir, self.ratings, num_candidates=self.num_candidates)
        if self.check_videos:
            folder.check_video = VideoChecks(folder.folder)
            folder.check_video.run(folder.video_paths(), self.num_workers, progress, folder.num_videos)
        return folder

    def checked(self, folder: WorkingFolder) -> Report:
        """Read the folder once.

        Args:
            folder ([`WorkingFolder`]): From `open`.

        Returns:
            [`Report`]: what was found.

        Raises:
            BadDataError: If something is wrong and `strict` is set.
            ValueError: If no item is usable, or one is rated in a dimension that `dimensions` does not name.
        """
        report, rated = Report(), set()
        for item in folder.items(report):
            rated |= {*rated_dimensions(item)}
        if unknown := rated - {*self.dimensions}:
            places = ", ".join(folder.first_rated_in(name) for name in sorted(unknown))
            raise ValueError(
                f"{folder.folder} is rated in {', '.join(sorted(rated))}, but dimensions has only "
                f"{', '.join(self.dimensions)}: name all of them (--dimension), or mend {places}."
            )
        if self.strict and report.problems:
            raise BadDataError(report)
        if not report.items_out:
            raise ValueError(f"{folder.folder} has no usable item.\n{report.describe()}")
        return report

    def check_pairs(self, folder: WorkingFolder) -> None:
        """Read the folder up to the first pair.

        Args:
            folder ([`WorkingFolder`]): From `open`.

        Raises:
            ValueError: If there is none.
        """
        if not any(True for item in folder.items() for _ in self.pairs(item)):
            raise ValueError(
                f"{folder.folder} gives not one pair: are there ratings that differ in {self.pair_dimensions}?"
            )

    def pairs(self, item: Item) -> Iterator[PreferencePair]:
        """Yield an item's pairs, dimension by dimension.

        Args:
            item ([`Item`]): The item.

        Yields:
            [`PreferencePair`]
        """
        for dimension in self.pair_dimensions:
            yield from make_preference_pairs(item, dimension, self.ties, self.min_margin)

    def splits(self, folder: WorkingFolder) -> dict[str, set[str]]:
        """Draw the splits.

        Args:
            folder ([`WorkingFolder`]): From `open`.

        Returns:
            `dict[str, set[str]]`: split to the ids of its items, usable or not; splits without any are left out.
        """
        split_of = assign_splits(folder.prompts(), self.fractions, self.seed)
        names = {name: {item_id for item_id, split in split_of.items() if split == name} for name in self.fractions}
        return {name: item_ids for name, item_ids in names.items() if item_ids}


class VideoPrefer(datasets.GeneratorBasedBuilder):
    """VIDEOPREFER from a working folder, as the view `"ratings"` or `"preference"`.

    Example:

    ```python
    >>> from videorm_hf.videoprefer.builder import VideoPrefer

    >>> pairs = VideoPrefer(config_name="preference", data_dir="folder").as_streaming_dataset("train")
    ```
    """

    BUILDER_CONFIG_CLASS = VideoPreferConfig
    config: VideoPreferConfig
    report: Report

    def _info(self) -> datasets.DatasetInfo:
        if self.config.name not in VIEWS:
            raise ValueError(f"The views are {' and '.join(VIEWS)}, got {self.config.name!r}.")
        is_ratings = self.config.name == RATINGS
        features = ratings_features(self.config.dimensions) if is_ratings else preference_features()
        return datasets.DatasetInfo(features=features, description="VIDEOPREFER: rated videos of the same prompts.")

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        folder = self.config.open()
        self.report = self.config.checked(folder)
        if self.report.problems:
            logger.warning("%s", self.report.describe())
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"folder": folder, "item_ids": item_ids})
            for name, item_ids in self.config.splits(folder).items()
        ]

    def _generate_examples(
        self, folder: WorkingFolder, item_ids: set[str]
    ) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        path = partial(os.path.join, os.path.abspath(folder.folder))
        for number, item in enumerate(folder.items(only=item_ids)):
            if self.config.name == RATINGS:
                yield (number, 0), ratings_row(item, path, self.config.dimensions)
                continue
            for pair_number, pair in enumerate(self.config.pairs(item)):
                yield (number, pair_number), preference_row(pair, path)
