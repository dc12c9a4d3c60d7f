"""Three ways to lay a data set out so that plain `load_dataset` reads it without our code.

`parquet` and `webdataset` embed the videos in shards, `files` leaves them loose beside a table that names them. Rows
are written as they come; memory holds one row group of each table. Which column becomes what is described in
docs/dataset_formats.md.
"""

import hashlib
import io
import json
import os
import posixpath
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetInfo, Features, List, Value, Video

from videorm_hf.videoprefer.features import PREFERENCE, RATINGS, preference_row, ratings_row
from videorm_hf.videoprefer.items import Item
from videorm_hf.videoprefer.pairs import PreferencePair

SHARD_BYTES = 128 * 2**20  # pyarrow keeps a file that it reads in memory until its end
ROW_GROUP_BYTES = 2**20  # a writer holds one of each table, a reader has one as Python objects
ROW_GROUP_ROWS = 1000

# The endings by which `datasets` knows a video; in the other layouts a GIF, for one, would be read as a still image.
VIDEO_ENDINGS = (".mkv", ".mp4", ".avi", ".mpeg", ".mov")


class ParquetTable:
    """A table in files such as `train-00000.parquet`, written row by row.

    Args:
        prefix (`Path`): Folder and first part of the names.
        features (`datasets.Features`): The columns.
        shard_bytes (`int`, *optional*): About how large a file becomes; `None` for a single file `<prefix>.parquet`.
        row_group_bytes (`int`): About how large a row group becomes.
    """

    def __init__(
        self,
        prefix: Path,
        features: Features,
        shard_bytes: int | None = SHARD_BYTES,
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        self.prefix, self.schema = prefix, features.arrow_schema
        self.shard_bytes, self.row_group_bytes = shard_bytes, row_group_bytes
        self._rows: list[dict[str, Any]] = []
        self._group_bytes = self._file_bytes = self._num_files = 0
        self._writer: pq.ParquetWriter | None = None
        prefix.parent.mkdir(parents=True, exist_ok=True)

    def write(self, row: dict[str, Any], num_bytes: int = 0) -> None:
        """Add a row.

        Args:
            row (`dict`): Its cells, as Arrow stores them.
            num_bytes (`int`): Bytes of its videos.
        """
        self._rows.append(row)
        self._group_bytes += num_bytes
        if self.shard_bytes is not None and self._file_bytes + self._group_bytes >= self.shard_bytes:
            self.close()
        elif self._group_bytes >= self.row_group_bytes or len(self._rows) >= ROW_GROUP_ROWS:
            self._write_group()

    def close(self) -> None:
        """Finish the file that is open."""
        if self._rows:
            self._write_group()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write_group(self) -> None:
        if self._writer is None:
            number = "" if self.shard_bytes is None else f"-{self._num_files:05d}"
            # Chunks are cut by content, so that the Hub keeps a video that stands in several rows once.
            self._writer = pq.ParquetWriter(
                f"{self.prefix}{number}.parquet", self.schema, use_content_defined_chunking=True, write_page_index=True
            )
            self._num_files, self._file_bytes = self._num_files + 1, 0
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self.schema))
        self._file_bytes += self._group_bytes
        self._rows, self._group_bytes = [], 0


class Layout:
    """What the three layouts share: a writer for each view and split, opened when its first row comes.

    Args:
        folder (`Path`): Where to write.
        source (`Path`): The working folder, where the items' paths start.
        features (`dict[str, datasets.Features]`): View to columns.
        dimensions (`tuple[str, ...]`): What the `ratings` view shows.
        shard_bytes (`int`): About how large a shard becomes.
    """

    def __init__(
        self,
        folder: Path,
        source: Path,
        features: dict[str, Features],
        dimensions: tuple[str, ...],
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder, self.source, self.features = folder, source, features
        self.dimensions, self.shard_bytes = dimensions, shard_bytes
        self.num_rows: dict[str, dict[str, int]] = {RATINGS: {}, PREFERENCE: {}}  # view, split
        self._tables: dict[tuple[str, str], Any] = {}

    def write(self, split: str, item: Item, pairs: list[PreferencePair]) -> None:
        """Add an item to both views.

        Args:
            split (`str`): Its split.
            item ([`Item`]): The item; its videos are paths in `source`.
            pairs (`list[PreferencePair]`): Its pairs.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Finish all files."""
        for table in self._tables.values():
            table.close()

    def configs(self) -> list[dict[str, Any]]:
        """Return the configurations for the card: which files hold which split of which view."""
        return [
            {
                "config_name": view,
                **({"default": True} if view == PREFERENCE else {}),
                "data_files": [{"split": split, "path": self.pattern(view, split)} for split in rows],
            }
            for view, rows in self.num_rows.items()
        ]

    def pattern(self, view: str, split: str) -> str | list[str]:
        """Return which files hold a split of a view.

        Args:
            view (`str`): The view.
            split (`str`): The split.

        Returns:
            `str` or `list[str]`: patterns that start at the folder.
        """
        raise NotImplementedError

    def dataset_infos(self) -> dict[str, DatasetInfo]:
        """Return what the card has to say about columns, by view; nothing where the files themselves say it."""
        return {}

    def _content(self, video: str) -> bytes:
        with open(os.path.join(self.source, video), "rb") as file:
            return file.read()

    def _count(self, view: str, split: str, rows: int = 1) -> None:
        self.num_rows[view][split] = self.num_rows[view].get(split, 0) + rows


class ParquetLayout(Layout):
    """`<view>/<split>-00000.parquet`: exactly the columns of the views, videos as bytes in their cells."""

    def write(self, split: str, item: Item, pairs: list[PreferencePair]) -> None:  # noqa: D102
        contents = {candidate.video: self._content(candidate.video) for candidate in item.candidates}

        def cell(video: str) -> dict[str, Any]:
            return {"bytes": contents[video], "path": posixpath.basename(video)}

        size = sum(map(len, contents.values()))
        self._write(RATINGS, split, ratings_row(item, cell, self.dimensions), size)
        for pair in pairs:
            size = len(contents[pair.chosen]) + len(contents[pair.rejected])
            self._write(PREFERENCE, split, preference_row(pair, cell), size)

    def _write(self, view: str, split: str, row: dict[str, Any], num_bytes: int) -> None:
        if (view, split) not in self._tables:
            prefix = self.folder / view / split
            self._tables[view, split] = ParquetTable(prefix, self.features[view], self.shard_bytes)
        self._tables[view, split].write(row, num_bytes)
        self._count(view, split)

    def pattern(self, view: str, split: str) -> str:  # noqa: D102
        return f"{view}/{split}-*.parquet"


class FilesLayout(Layout):
    """`<split>/videos/...` with the tables `<split>/ratings.parquet` and `<split>/preference.parquet` that name them.

    The tables are Parquet because JSON Lines lose the type of a column whose first values are absent. Videos are
    linked where the file system can, else copied.
    """

    def write(self, split: str, item: Item, pairs: list[PreferencePair]) -> None:  # noqa: D102
        _check_endings(item, "files")
        name = hashlib.sha256(item.item_id.encode("utf-8")).hexdigest()[:16]
        names = {}
        for number, candidate in enumerate(item.candidates):
            ending = PurePosixPath(candidate.video).suffix.lower()
            names[candidate.video] = f"videos/{name[:2]}/{name}-{number}{ending}"
            _link_or_copy(self.source / candidate.video, self.folder / split / names[candidate.video])
        self._write(RATINGS, split, ratings_row(item, names.__getitem__, self.dimensions))
        for pair in pairs:
            self._write(PREFERENCE, split, preference_row(pair, names.__getitem__))

    def _write(self, view: str, split: str, row: dict[str, Any]) -> None:
        if (view, split) not in self._tables:
            columns = Features(_file_name_columns(self.features[view]))
            # Plain Arrow: the features' own metadata would say that the names are the videos' final type.
            self._tables[view, split] = table = ParquetTable(self.folder / split / view, columns, shard_bytes=None)
            table.schema = table.schema.remove_metadata()
        self._tables[view, split].write(_file_name_cells(row, self.features[view]))
        self._count(view, split)

    def configs(self) -> list[dict[str, Any]]:  # noqa: D102
        return [config | {"metadata_filenames": [f"{config['config_name']}.parquet"]} for config in super().configs()]

    def pattern(self, view: str, split: str) -> list[str]:  # noqa: D102
        return [f"{split}/{view}.parquet", f"{split}/videos/**"]


class WebDatasetLayout(Layout):
    """`<view>/<split>-00000.tar`: a sample a row, with a file for each video and `json` for all other columns.

    `datasets` names a column after the ending of its files: `chosen.mp4`, `rejected.mp4`, `candidate_0.mp4`, `json`.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._names: dict[str, list[str]] = {}  # view to the files of each of its samples

    def write(self, split: str, item: Item, pairs: list[PreferencePair]) -> None:  # noqa: D102
        _check_endings(item, "webdataset")
        row = ratings_row(item, str, self.dimensions)
        videos = {f"candidate_{k}": candidate.pop("video") for k, candidate in enumerate(row["candidates"])}
        self._write(RATINGS, split, videos, row)
        for pair in pairs:
            row = preference_row(pair, str)
            self._write(PREFERENCE, split, {name: row.pop(name) for name in ("chosen", "rejected")}, row)

    def _write(self, view: str, split: str, videos: dict[str, str], rest: dict[str, Any]) -> None:
        files = {name + PurePosixPath(video).suffix.lower(): video for name, video in videos.items()}
        names = self._names.setdefault(view, list(files))
        if list(files) != names:
            raise ValueError(
                f"WebDataset needs the same files in every row: got {list(files)} after {names}. "
                "Where the number of candidates or the kind of their files differs, use the layout parquet."
            )
        if (view, split) not in self._tables:
            self._tables[view, split] = TarShards(self.folder / view / split, self.shard_bytes)
        contents = {name: self._content(video) for name, video in files.items()}
        contents["json"] = json.dumps(rest, ensure_ascii=False).encode("utf-8")
        self._tables[view, split].write(contents)
        self._count(view, split)

    def pattern(self, view: str, split: str) -> str:  # noqa: D102
        return f"{view}/{split}-*.tar"

    def dataset_infos(self) -> dict[str, DatasetInfo]:
        """Return the columns, by view: without them `datasets` guesses types from the first samples."""
        infos = {}
        for view, names in self._names.items():
            columns: dict[str, Any] = {name: Video() for name in names}
            columns["json"] = _without_videos(self.features[view])
            columns |= {"__key__": Value("string"), "__url__": Value("string")}
            infos[view] = DatasetInfo(features=Features(columns), config_name=view)
        return infos


class TarShards:
    """Samples in files such as `train-00000.tar`.

    Args:
        prefix (`Path`): Folder and first part of the names.
        shard_bytes (`int`): About how large a file becomes.
    """

    def __init__(self, prefix: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.prefix, self.shard_bytes = prefix, shard_bytes
        self._num_samples = self._num_files = 0
        self._tar: tarfile.TarFile | None = None
        prefix.parent.mkdir(parents=True, exist_ok=True)

    def write(self, contents: dict[str, bytes]) -> None:
        """Add a sample.

        Args:
            contents (`dict[str, bytes]`): Ending to content of its files.
        """
        if self._tar is None:
            self._tar = tarfile.open(f"{self.prefix}-{self._num_files:05d}.tar", "w")
            self._num_files += 1
        for ending, content in contents.items():
            entry = tarfile.TarInfo(f"{self._num_samples:08d}.{ending}")
            entry.size = len(content)
            self._tar.addfile(entry, io.BytesIO(content))
        self._tar.getmembers().clear()  # tarfile would remember every entry
        self._num_samples += 1
        if self._tar.offset >= self.shard_bytes:
            self.close()

    def close(self) -> None:
        """Finish the file that is open."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None


LAYOUTS: dict[str, type[Layout]] = {"parquet": ParquetLayout, "webdataset": WebDatasetLayout, "files": FilesLayout}


def _check_endings(item: Item, layout: str) -> None:
    for candidate in item.candidates:
        ending = PurePosixPath(candidate.video).suffix.lower()
        if ending not in VIDEO_ENDINGS:
            raise ValueError(
                f"The layout {layout} needs videos that end in {', '.join(VIDEO_ENDINGS)}, by which `datasets` knows "
                f"them; item {item.item_id!r} has {candidate.video!r}. Use the layout parquet, which takes any."
            )


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _file_name_columns(columns: Any) -> Any:
    """Replace every video column by a text column of the name under which `datasets` looks for files."""
    if isinstance(columns, List):
        return List(_file_name_columns(columns.feature))
    if isinstance(columns, dict):
        return {
            f"{name}_file_name" if isinstance(column, Video) else name: _file_name_columns(column)
            for name, column in columns.items()
        }
    return Value("string") if isinstance(columns, Video) else columns


def _file_name_cells(cells: Any, columns: Any) -> Any:
    if isinstance(columns, List):
        return [_file_name_cells(cell, columns.feature) for cell in cells]
    if isinstance(columns, dict) and cells is not None:
        return {
            f"{name}_file_name" if isinstance(column, Video) else name: _file_name_cells(cells[name], column)
            for name, column in columns.items()
        }
    return cells


def _without_videos(columns: Any) -> Any:
    if isinstance(columns, List):
        return List(_without_videos(columns.feature))
    if isinstance(columns, dict):
        return {name: _without_videos(column) for name, column in columns.items() if not isinstance(column, Video)}
    return columns
