"""A working folder as a folder for the Hub: data that plain `load_dataset` reads, and the card that describes them."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import HTTPError
from tqdm.auto import tqdm

from videorm_hf.videoprefer.bad_data import Report
from videorm_hf.videoprefer.builder import VideoPreferConfig
from videorm_hf.videoprefer.features import PREFERENCE, RATINGS, preference_features, ratings_features
from videorm_hf.videoprefer.layouts import LAYOUTS, SHARD_BYTES, Layout
from videorm_hf.videoprefer.splits import SPLITS_FILE, write_splits
from videorm_hf.videoprefer.statistics import DatasetStatistics, compute_statistics

REPORT_FILE = "report.json"
STATISTICS_FILE = "statistics.json"
# Paths in a repository that hold rows; those of an earlier export go when another one is uploaded.
ROWS_OF_EXPORTS = tuple(pattern for view in (RATINGS, PREFERENCE) for pattern in (f"{view}/*", f"*/{view}.parquet"))

# Prompts and real clips keep the terms of where they come from.
SOURCE_LICENCES = {
    "vidprom": "CC BY-NC 4.0 (VidProM, Wang and Yang 2024, https://huggingface.co/datasets/WenhaoWang/VidProM)",
    "activitynet": "research only, clips under the terms of YouTube (ActivityNet Captions, Krishna et al. 2017, "
    "https://cs.stanford.edu/people/ranjaykrishna/densevid)",
    "msrvtt": "research only, clips under the terms of YouTube (MSR-VTT, Xu et al. 2016, "
    "https://www.microsoft.com/en-us/research/publication/msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language)",
}
_UNKNOWN_LICENCE = "not stated"


def export_to_hub_layout(
    config: VideoPreferConfig,
    output: str | os.PathLike[str],
    layout: str = "parquet",
    *,
    title: str = "VIDEOPREFER",
    licences: Mapping[str, str] | None = None,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    progress: bool = True,
) -> Report:
    """Write a working folder so that `load_dataset(output, "preference")` and `load_dataset(output, "ratings")` work.

    The folder appears when it is complete: an interrupted export leaves `<output>.unfinished`, which the next one
    replaces.

    Args:
        config ([`VideoPreferConfig`]): The working folder and how to read it.
        output (`str` or `os.PathLike`): The folder to write.
        layout (`"parquet"`, `"webdataset"` or `"files"`, defaults to `"parquet"`):
            Shards with embedded videos, or loose files.
        title (`str`): Of the card.
        licences (`Mapping[str, str]`, *optional*): Prompt source or model to licence, beside what is known.
        shard_bytes (`int`, defaults to 128 MiB): About how large a shard becomes; a reader holds one.
        overwrite (`bool`, defaults to `False`): Replace an exported data set.
        progress (`bool`, defaults to `True`): Show progress bars.

    Returns:
        [`Report`]: what was set aside.

    Raises:
        ValueError: If the layout is unknown, or there is not one pair.
        FileExistsError: If the output exists and may not be replaced, or is something else than an exported data set.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}.")
    output = Path(output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists: name another folder, or replace it (overwrite).")
    if output.exists() and not ((output / "README.md").is_file() and (output / SPLITS_FILE).is_file()):
        raise FileExistsError(f"{output} is not an exported data set, and is not replaced: name another folder.")
    folder = config.open(progress)
    report = config.checked(folder)
    config.check_pairs(folder)
    statistics = compute_statistics(folder.items())
    unfinished = output.with_name(output.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)

    features = {RATINGS: ratings_features(config.dimensions), PREFERENCE: preference_features()}
    writer = LAYOUTS[layout](unfinished, folder.folder, features, config.dimensions, shard_bytes)
    split_of = {item_id: split for split, item_ids in config.splits(folder).items() for item_id in item_ids}
    bar = tqdm(folder.items(), desc="exporting", unit="item", total=report.items_out, disable=not progress or None)
    content = hashlib.sha256()
    for item in bar:
        split, pairs = split_of[item.item_id], list(config.pairs(item))
        writer.write(split, item, pairs)
        sizes = [os.path.getsize(folder.folder / candidate.video) for candidate in item.candidates]
        content.update(repr((split, item, pairs, sizes)).encode("utf-8"))
    writer.close()
    write_splits(unfinished / SPLITS_FILE, split_of, config.fractions, config.seed)
    # `datasets` knows a local folder by its name and card: without this it would read from its cache what an earlier
    # export of that name held.
    configs = [entry | {"description": f"content {content.hexdigest()[:16]}"} for entry in writer.configs()]
    _write_descriptions(unfinished, config, writer, configs, report, statistics, title, licences or {})
    if output.exists():
        shutil.rmtree(output)
    os.replace(unfinished, output)
    return report


def _write_descriptions(
    output: Path,
    config: VideoPreferConfig,
    writer: Layout,
    configs: list[dict[str, Any]],
    report: Report,
    statistics: DatasetStatistics,
    title: str,
    licences: Mapping[str, str],
) -> None:
    report.write(output / REPORT_FILE)
    (output / STATISTICS_FILE).write_text(json.dumps(statistics.to_dict(), indent=2) + "\n", encoding="utf-8")
    data = DatasetCardData(
        license="other",
        license_name="licences-of-the-sources",
        task_categories=["text-to-video"],
        tags=["preference", "reward-model", "video", "videoprefer"],
        pretty_name=title,
        configs=configs,
    )
    DatasetInfosDict(writer.dataset_infos()).to_dataset_card_data(data)
    card = DatasetCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("dataset_card.md.jinja2")),
        title=title,
        layout=next(name for name, kind in LAYOUTS.items() if isinstance(writer, kind)),
        rows=writer.num_rows,
        statistics=statistics,
        report=report,
        config=config,
        licences=_licences(statistics, licences),
    )
    card.save(output / "README.md")


def _licences(statistics: DatasetStatistics, given: Mapping[str, str]) -> dict[str, str]:
    """Return the licence of every prompt source and model; what is not known is said to be unknown."""
    names = [*statistics.prompt_sources, *(model for model in statistics.models if model not in SOURCE_LICENCES)]
    return {name: given.get(name, SOURCE_LICENCES.get(name, _UNKNOWN_LICENCE)) for name in dict.fromkeys(names)}


def files_to_push(folder: str | os.PathLike[str]) -> list[tuple[str, int]]:
    """List what [`push_to_hub`] uploads.

    Args:
        folder (`str` or `os.PathLike`): What [`export_to_hub_layout`] wrote.

    Returns:
        `list[tuple[str, int]]`: path in the repository and size in bytes.

    Raises:
        FileNotFoundError: If the folder has no card: it was not exported, or not to its end.
    """
    folder = Path(folder)
    if not (folder / "README.md").is_file():
        raise FileNotFoundError(
            f"{folder} has no README.md: it is not an exported data set; run `videoprefer export`."
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def push_to_hub(
    folder: str | os.PathLike[str], repo_id: str, *, private: bool = False, api: HfApi | None = None
) -> None:
    """Upload an exported folder to a data set repository of the Hub, which is made if it does not exist.

    An interrupted upload is continued by the same call: what is there is not sent again. Rows that an earlier
    export left and this one does not replace are removed from the repository: they would be read with its own.

    Args:
        folder (`str` or `os.PathLike`): What [`export_to_hub_layout`] wrote.
        repo_id (`str`): Such as `"user/videoprefer"`.
        private (`bool`, defaults to `False`): Make a new repository private.
        api (`huggingface_hub.HfApi`, *optional*): With its endpoint and token; by default those of this machine.

    Raises:
        ConnectionError: If the Hub is not reached. A folder that is no exported data set is a `FileNotFoundError`.
    """
    files_to_push(folder)
    api = HfApi() if api is None else api
    try:
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id, repo_type="dataset", folder_path=Path(folder), delete_patterns=list(ROWS_OF_EXPORTS)
        )
    except HTTPError as error:
        if isinstance(error, OSError):  # what the Hub answered, in words
            raise
        raise ConnectionError(
            f"{api.endpoint} was not reached ({error}): run again, and the upload goes on."
        ) from error
