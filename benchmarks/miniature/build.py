"""Build the shipped miniature weights from nothing, and measure them: `make miniature`, about an hour on two cores.

    python -m benchmarks.miniature              # trains, writes hub_cards/results/miniature.json, installs the weights
    python -m benchmarks.miniature --smoke      # a few steps of everything, installs nothing

Everything is seeded and runs on a CPU, two parts side by side on a thread each. What is done is kept in the work
folder: an interrupted run goes on with the first part that is missing.
"""

import argparse
import itertools
import json
import logging
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.miniature.generator import (
    GeneratorSettings,
    build_autoencoder,
    build_generator,
    build_text_encoder,
    early_folder,
)
from benchmarks.miniature.preferences import make_items, make_rendered_items, shift_items
from benchmarks.miniature.reward import build_image_reward, head_trainer, train_video_reward
from benchmarks.miniature.softening import soften_head
from benchmarks.studies.image_reward import load_image_reward, load_videorm
from benchmarks.studies.known_pairs import GROUPS, make_pairs
from benchmarks.studies.world import Sampling, held_out_prompts, load_generator, sample_clips, score_clips, truths_of
from videorm_hf.evaluation.metrics import mean_interval, pair_credit
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI
from videorm_hf.rewards import Reward
from videorm_hf.videoprefer.items import Item
from videorm_hf.videoprefer.pairs import make_preference_pairs

logger = logging.getLogger(__name__)
RESULTS = Path(__file__).parents[2] / "hub_cards" / "results" / "miniature.json"
WEIGHTS = (("t2v-mini", T2V_MINI), ("videorm-mini", VIDEORM_MINI))
LARGEST_BYTES = 12 * 2**20


@dataclass(frozen=True)
class Settings:
    """How much is trained and measured.

    Args:
        generator ([`GeneratorSettings`]): Of t2v-mini.
        image_reward_steps (`int`): Steps of 32 prompts.
        num_train_items (`int`): Items of the generator's clips that the temporal head learns from.
        num_early_items (`int`): Items of the half-trained generator's clips, made while it goes on training.
        num_shifted (`int`): Shifted copies of each of these: so few clips would be learned by heart.
        num_rendered_items (`int`): Items of rendered clips that it learns from too.
        num_validation_items (`int`): Items of either kind that choose its best epoch.
        epochs (`int`): Passes over the training items.
        num_test_items (`int`): Items that the rewards are measured on.
        num_softening_pairs (`int`): Pairs of each fault that decide how strong the head may be.
        num_known_pairs (`int`): Pairs of each fault that the rewards are measured on.
        num_prompts (`int`): Prompts of each split that the generator is measured on.
        seed (`int`): Of everything.
    """

    generator: GeneratorSettings = GeneratorSettings()
    image_reward_steps: int = 2_000
    num_train_items: int = 256
    num_early_items: int = 768
    num_shifted: int = 3
    num_rendered_items: int = 10_000
    num_validation_items: int = 64
    epochs: int = 8
    num_test_items: int = 64
    num_softening_pairs: int = 200
    num_known_pairs: int = 150
    num_prompts: int = 96
    seed: int = 0


SMOKE = Settings(GeneratorSettings(64, 4, 4, 4, 2), 4, 32, 16, 1, 16, 16, 2, 16, 4, 4, 8)


def main() -> None:
    """Build, measure, install."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/miniature"), help="where unfinished work is kept")
    parser.add_argument("--smoke", action="store_true", help="a few steps of everything; installs nothing")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    result = build(options.work, SMOKE if options.smoke else Settings())
    if options.smoke:
        print(json.dumps(result["tables"], indent=1))
        return
    install(options.work)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def build(work: Path, settings: Settings) -> dict[str, Any]:
    """Train both networks and measure them.

    Args:
        work (`Path`): Where parts are kept; a part that is there, made with the same settings, is not made again.
        settings ([`Settings`]): How much.

    Returns:
        `dict[str, Any]`: what is written to `hub_cards/results/miniature.json`.
    """
    begin = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    _check_settings(work, settings)
    parts = {
        "autoencoder": (build_autoencoder, settings.generator),
        "text-encoder": (build_text_encoder, settings.generator),
        "image-reward": (build_image_reward, settings.image_reward_steps, settings.seed),
    }
    with ProcessPoolExecutor(2, get_context("spawn"), initializer=_one_thread) as pool, _one_thread_here():
        # One process trains the generator all along; the other does all else meanwhile.
        futures = {name: pool.submit(_part, work / name, *part) for name, part in parts.items()}
        log = {name: futures[name].result() for name in ("autoencoder", "text-encoder")}
        of_generator = (settings.generator, work / "autoencoder", work / "text-encoder")
        futures["t2v-mini"] = pool.submit(_part, work / "t2v-mini", build_generator, *of_generator)
        log["image-reward"] = futures["image-reward"].result()
        sets: list[Future[list[Item]]] = []
        if not _facts(work / "temporal-head").exists():  # while the generator goes on training
            sets.append(pool.submit(_rendered_items, work, settings))
            wait(sets)
            while not (early_folder(work / "t2v-mini").exists() or futures["t2v-mini"].done()):
                time.sleep(1)
            sets.append(pool.submit(_early_items, work, settings))
        log["t2v-mini"] = futures["t2v-mini"].result()
        generate = partial(pool.submit, _generated_items, work / "t2v-mini")
        if sets:
            half = settings.num_train_items // 2
            sets += [generate(half, "train", settings.seed + number) for number in (3, 4)]
            sets.append(generate(settings.num_validation_items, "validation", settings.seed + 1))
        test = generate(settings.num_test_items, "test", settings.seed + 2)
        generated = {
            name: pool.submit(_generator_table, work / "t2v-mini", settings.num_prompts, split, settings.seed + 50)
            for name, split in (("t2v_mini_train", "train"), ("t2v_mini", "test"))
        }
        *cheap, first, second, validation = (made.result() for made in sets) if sets else ([], [], [])
        train = _with_shifted(first + second, settings) + list(itertools.chain(*cheap))
        validation += make_rendered_items(settings.num_validation_items, "validation", settings.seed)
        training = (work / "image-reward", train, validation, settings.epochs, settings.seed)
        log["temporal-head"] = _part(work / "temporal-head", train_video_reward, *training)
        softening = (work / "temporal-head", settings.num_softening_pairs, settings.seed)
        log["videorm-mini"] = _part(work / "videorm-mini", soften_head, *softening)
        tables = reward_tables(work / "videorm-mini", settings, test.result())
        tables |= {name: table.result() for name, table in generated.items()}
    return {
        "tables": tables,
        "log": log,
        "seconds_of_this_run": round(time.monotonic() - begin),
        "settings": asdict(settings),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 2},
        "versions": {name: version(name) for name in ("torch", "transformers", "diffusers", "numpy")},
    }


def reward_tables(folder: Path, settings: Settings, test: list[Item]) -> dict[str, Any]:
    """Measure the rewards on scenes that neither was trained on; tables of the cards."""
    pairs = {"videorm_mini": load_videorm(folder), "image_reward_mini": load_image_reward(folder)}
    tables = {name: _accuracy_table("dimension", _item_rows(reward, test)) for name, reward in pairs.items()}
    for name, reward in pairs.items():
        rows = _known_rows(reward, settings.num_known_pairs, settings.seed)
        tables[f"{name}_clips"] = _accuracy_table("what the worse clip lacks", rows)
    return tables


def _generator_table(generator: Path, num_prompts: int, split: str, seed: int) -> dict[str, Any]:
    """Measure the generator on prompts of one split in a process of the pool; a table of the cards."""
    prompts = held_out_prompts(num_prompts, seed, split=split)
    truths = truths_of(sample_clips(load_generator(generator), prompts, Sampling(), seed), prompts)
    return {
        "row": "what the judge measures",
        "measure": "mean",
        "unit": "number",
        "count": "clips",
        "rows": {name.replace("_", " "): _row(values, prompts) for name, values in truths.items()},
    }


def install(work: Path) -> None:
    """Copy the weights into the package, without the code that the package has anyway.

    Raises:
        ValueError: If they are larger than the package may carry; those that it has are kept.
    """
    names = [name for name, _ in WEIGHTS]
    size = sum(file.stat().st_size for name in names for file in (work / name).rglob("*.safetensors"))
    if size > LARGEST_BYTES:
        raise ValueError(f"The weights have {size:,} bytes, and the package carries at most {LARGEST_BYTES:,}.")
    for name, target in WEIGHTS:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(work / name, target, ignore=shutil.ignore_patterns("*.py", "facts.json", "README.md", "*.bin"))
        for file in target.rglob("*.json"):
            record = json.loads(file.read_text(encoding="utf-8"))
            for part in (record, record.get("video_processor", {})):
                part.pop("auto_map", None)
                part.pop("_name_or_path", None)
            file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _part(folder: Path, make: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Make a folder, or read what was noted when it was made."""
    facts = _facts(folder)
    if not facts.exists():
        shutil.rmtree(folder, ignore_errors=True)
        begin = time.monotonic()
        made = {**make(folder, *arguments), "seconds": round(time.monotonic() - begin)}
        facts.write_text(json.dumps(made), encoding="utf-8")
    return json.loads(facts.read_text(encoding="utf-8"))


def _facts(folder: Path) -> Path:
    """Return the file that is written when a part is done."""
    return folder / "facts.json"


def _generated_items(generator: Path, num_items: int, split: str, seed: int) -> list[Item]:
    """Make items of one split in a process of the pool."""
    return make_items(load_generator(generator), num_items, split, seed)


def _rendered_items(work: Path, settings: Settings) -> list[Item]:
    """Make rendered items, and the features of their clips for the training of the temporal head, in the pool."""
    return _with_features(make_rendered_items(settings.num_rendered_items, "train", settings.seed), work, settings)


def _early_items(work: Path, settings: Settings) -> list[Item]:
    """Make items of the half-trained generator, and the features of their clips, in the pool."""
    pipe = load_generator(early_folder(work / "t2v-mini"))
    items = make_items(pipe, settings.num_early_items, "train", settings.seed + 5)
    return _with_features(_with_shifted(items, settings), work, settings)


def _with_shifted(items: list[Item], settings: Settings) -> list[Item]:
    return items + shift_items(items, settings.num_shifted, settings.seed)


def _with_features(items: list[Item], work: Path, settings: Settings) -> list[Item]:
    any_pairs = make_rendered_items(2, "validation", settings.seed)
    head_trainer(work / "temporal-head", work / "image-reward", items, any_pairs, settings.epochs, settings.seed)
    return items


def _item_rows(reward: Reward, items: list[Item]) -> dict[str, Any]:
    """Compare a reward with the judge on all pairs of the items, by dimension."""
    shown = [(item, candidate) for item in items for candidate in item.candidates]
    clips, prompts = np.stack([candidate.video for _, candidate in shown]), [item.prompt for item, _ in shown]
    keys = [(item.item_id, candidate.candidate_id) for item, candidate in shown]
    scores = dict(zip(keys, score_clips(reward, clips, prompts), strict=True))
    rows = {}
    for dimension in ("mean", "prompt_following", "video_quality"):
        pairs = [pair for item in items for pair in make_preference_pairs(item, dimension)]
        if not pairs:  # clips of a generator that was hardly trained may all be tied
            continue
        better = [scores[pair.item_id, pair.chosen_id] for pair in pairs]
        worse = [scores[pair.item_id, pair.rejected_id] for pair in pairs]
        rows[dimension.replace("_", " ")] = _accuracy(better, worse, [pair.item_id for pair in pairs])
    return rows


def _known_rows(reward: Reward, number: int, seed: int) -> dict[str, Any]:
    """Compare a reward with the truth on rendered clips and the same with one fault."""
    rows = {}
    for group, faults in GROUPS.items():
        better, worse = [], []
        for fault in faults:
            pairs = make_pairs(fault, number, seed)
            better += list(score_clips(reward, pairs.better, pairs.prompts))
            worse += list(score_clips(reward, pairs.worse, pairs.prompts))
        rows[group] = _accuracy(better, worse, list(map(str, range(len(better)))))
    return rows


def _accuracy(better: list[float], worse: list[float], clusters: list[str]) -> dict[str, Any]:
    credits = pair_credit([1.0] * len(better), [0.0] * len(better), better, worse)
    wrong = pair_credit([1.0] * len(better), [0.0] * len(better), better, worse, score_ties="wrong")
    return {**_row(credits, clusters), "ties_wrong": float(wrong.mean())}


def _row(values: Any, clusters: list[str]) -> dict[str, Any]:
    low, high = mean_interval(values, clusters) or (None, None)
    return {"value": float(np.mean(values)), "low": low, "high": high, "n": len(values)}


def _accuracy_table(row: str, rows: dict[str, Any]) -> dict[str, Any]:
    return {"row": row, "measure": "pairwise accuracy", "unit": "share", "count": "pairs", "rows": rows}


def _check_settings(work: Path, settings: Settings) -> None:
    """Refuse to mix parts of different settings.

    Raises:
        ValueError: If the folder was begun with others.
    """
    path, mine = work / "settings.json", json.dumps(asdict(settings), sort_keys=True)
    if not path.exists():
        path.write_text(mine, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != mine:
        raise ValueError(f"{work} was begun with other settings. Remove it, or give another --work.")


def _one_thread() -> None:
    """Give each of the two processes one core."""
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@contextmanager
def _one_thread_here() -> Iterator[None]:
    """Use one core here too: so small networks hardly gain from a second one, and the pool has work for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
