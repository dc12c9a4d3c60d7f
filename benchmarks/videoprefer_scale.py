"""How building, exporting and reading a VIDEOPREFER grow with its size: time, rate and memory.

Working folders of two sizes, ten times apart, with many tiny real videos go through three stages, each in a process of
its own. The videos are a few hundred clips, each file made distinct by bytes that compress no further; a seventh of
the items has three candidates, which gives the paper's 54,000 videos for 14,000 items.

(a) `build`: every video decoded, every item checked, both views prepared as Arrow;
(b) `export`: both views as Parquet shards with embedded videos, statistics and card;
(c) `stream`: every row of both views, with its bytes, through plain `load_dataset(..., streaming=True)`.

Memory is the peak of the process above what it holds after its imports. Near-linear time is a growth near 10. Memory
is called flat if what an item adds is small beside its data: `added_bytes_per_item` of the growth; at 100,000 items,
seven times the paper's set, a kilobyte an item makes 100 MB.

A reader keeps the shard that it is in, so its peak grows with the data until they fill one shard. Real clips are about
a thousand times larger than the ones here and fill a shard of 128 MiB, the default, with a few dozen; shards here hold
8 MiB, so that both sets have several. `stream_default_shards` reads the larger set from shards of the default size:
what it needs more is at most such a shard, whatever the size of the set.

    python benchmarks/videoprefer_scale.py
"""

import argparse
import io
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

STAGES = ("build", "export", "stream", "export_default_shards", "stream_default_shards")
FOR_BOTH_SIZES = STAGES[:3]
SHARD_BYTES = 8 * 2**20
DISTINCT_CLIPS = 200
DIMENSIONS = ("prompt_following", "video_quality")
WORDS = [f"word{number}" for number in range(3000)]


def main() -> None:
    """Run all stages at both sizes, print them, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=14_000, help="items of the larger set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a set of 140 items, to see that it runs")
    parser.add_argument("--output", type=Path, help="by default results/videoprefer_scale.json; nothing with --smoke")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)  # the process of one stage
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage is not None:
        print(json.dumps(measure(arguments.stage, arguments.folder)))
        return
    items = 140 if arguments.smoke else arguments.items
    results: dict[str, Any] = {"machine": machine(), "seed": arguments.seed, "sets": {}}
    for size in (items // 10, items):
        with tempfile.TemporaryDirectory() as folder:
            videos = write_working_folder(Path(folder) / "working", size, arguments.seed)
            stages = STAGES if size == items else FOR_BOTH_SIZES
            rows = {stage: run_stage(stage, Path(folder)) for stage in stages}
        for stage, row in rows.items():
            row |= {"items_per_s": size / row["seconds"], "videos_per_s": videos / row["seconds"]}
            print(f"{size} items, {videos} videos, {stage}: {json.dumps(row)}", flush=True)
        results["sets"][str(size)] = {"items": size, "videos": videos, "stages": rows}
    results["growth"] = growth(*results["sets"].values())
    print(json.dumps(results["growth"]))
    if arguments.output or not arguments.smoke:
        output = arguments.output or Path(__file__).parent / "results" / "videoprefer_scale.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def growth(small: dict[str, Any], large: dict[str, Any]) -> dict[str, Any]:
    """Return how time and memory of each stage grow from the small to the large set."""
    stages = {}
    for stage, before in small["stages"].items():
        row = large["stages"][stage]
        added_mb = row["peak_mb_above_import"] - before["peak_mb_above_import"]
        stages[stage] = {
            "time_factor": row["seconds"] / before["seconds"],
            "added_peak_mb": added_mb,
            "added_bytes_per_item": round(added_mb * 2**20 / (large["items"] - small["items"])),
        }
    return {"size_factor": large["items"] / small["items"], "stages": stages}


def run_stage(stage: str, folder: Path) -> dict[str, Any]:
    """Run one stage in a fresh process."""
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "TQDM_DISABLE": "1"}
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(finished.stdout.splitlines()[-1])


def measure(stage: str, folder: Path) -> dict[str, Any]:
    """Run one stage in this process; return its time, its peak and what it counted."""
    from videorm_hf.videoprefer.builder import VideoPreferConfig
    from videorm_hf.videoprefer.export import export_to_hub_layout
    from videorm_hf.videoprefer.layouts import SHARD_BYTES as DEFAULT_SHARD_BYTES

    is_default = stage.endswith("default_shards")
    hub = folder / ("hub_default_shards" if is_default else "hub")
    config = VideoPreferConfig(name="preference", data_dir=str(folder / "working"), num_candidates=None, num_workers=0)
    at_import = resident_mb()
    start = time.perf_counter()
    if stage == "build":
        counted: dict[str, Any] = build(folder)
    elif stage.startswith("export"):
        shard_bytes = DEFAULT_SHARD_BYTES if is_default else SHARD_BYTES
        report = export_to_hub_layout(config, hub, shard_bytes=shard_bytes, progress=False)
        num_files = len(list(hub.rglob("*.parquet")))
        counted = {"items_out": report.items_out, "megabytes": folder_mb(hub), "parquet_files": num_files}
    else:
        counted = stream(hub)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)
    return {"seconds": seconds, "peak_mb_above_import": peak - at_import, "import_mb": at_import, **counted}


def build(folder: Path) -> dict[str, Any]:
    """Prepare both views, as `videoprefer build` does."""
    from videorm_hf.videoprefer.builder import VideoPrefer

    rows = {}
    for view in ("ratings", "preference"):
        settings = {"data_dir": str(folder / "working"), "num_candidates": None, "num_workers": 0}
        builder = VideoPrefer(config_name=view, cache_dir=str(folder / "cache"), **settings)
        builder.download_and_prepare()
        rows[f"{view}_rows"] = sum(split.num_examples for split in builder.info.splits.values())
    return {"items_out": builder.report.items_out, **rows}


def stream(hub: Path) -> dict[str, Any]:
    """Read every row and its bytes."""
    from datasets import load_dataset

    counted: dict[str, Any] = {"rows": 0, "video_megabytes": 0.0}
    for view in ("ratings", "preference"):
        for split in load_dataset(str(hub), view, streaming=True).values():
            for row in split.decode(False):
                counted["rows"] += 1
                cells = (
                    [candidate["video"] for candidate in row["candidates"]]
                    if view == "ratings"
                    else [row["chosen"], row["rejected"]]
                )
                counted["video_megabytes"] += sum(len(cell["bytes"]) for cell in cells) / 2**20
    return counted


def write_working_folder(folder: Path, num_items: int, seed: int) -> int:
    """Write items, ratings and videos; return how many videos there are."""
    draw = random.Random(seed)
    clips = [tiny_clip(number) for number in range(DISTINCT_CLIPS)]
    num_videos = 0
    folder.mkdir(parents=True)
    with (folder / "items.jsonl").open("w") as items, (folder / "ratings.jsonl").open("w") as ratings:
        for number in range(num_items):
            candidates = []
            for k in range(3 if number % 7 == 0 else 4):
                path = folder / "videos" / f"{number // 1000:03d}" / f"{number}-{k}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(draw.choice(clips) + filler(draw))
                video = path.relative_to(folder).as_posix()
                candidates.append({"candidate_id": str(k), "video": video, "model": f"model-{k}", "seed": num_videos})
                num_videos += 1
                for dimension in DIMENSIONS:
                    ratings.write(json.dumps(rating(f"item-{number}", str(k), dimension, draw)) + "\n")
            prompt = " ".join(draw.choices(WORDS, k=draw.randint(5, 30)))
            item = {
                "item_id": f"item-{number}",
                "prompt": prompt,
                "prompt_source": "vidprom",
                "candidates": candidates,
            }
            items.write(json.dumps(item) + "\n")
    return num_videos


def rating(item_id: str, candidate_id: str, dimension: str, draw: random.Random) -> dict[str, Any]:
    """A record with a rationale of an ordinary length."""
    return {
        "item_id": item_id,
        "candidate_id": candidate_id,
        "dimension": dimension,
        "rating": draw.randint(1, 5),
        "rationale": " ".join(draw.choices(WORDS, k=40)),
        "failure": None,
        "judge": {"model": "judge", "rubric_version": "1", "num_frames": 8, "temperature": 0.3},
    }


def tiny_clip(number: int) -> bytes:
    """An MP4 of four frames, a few kilobytes or less."""
    import av
    import numpy as np

    noise = np.random.default_rng(number)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        encoder = container.add_stream("libx264", rate=8)
        encoder.width, encoder.height, encoder.pix_fmt = 32, 32, "yuv420p"
        for _ in range(4):
            coarse = noise.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(coarse.repeat(8, axis=0).repeat(8, axis=1), format="rgb24")
            container.mux(encoder.encode(frame))
        container.mux(encoder.encode())
    return buffer.getvalue()


def filler(draw: random.Random) -> bytes:
    """An MP4 box of random bytes, which players pass over."""
    content = draw.randbytes(1000)
    return (len(content) + 8).to_bytes(4, "big") + b"free" + content


def resident_mb() -> float:
    """Return what this process holds in memory now."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def folder_mb(folder: Path) -> float:
    """Return the size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    packages = {name: version(name) for name in ("datasets", "pyarrow", "av", "videorm-hf")}
    return {
        "platform": platform.system(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "disk_free_gb": round(shutil.disk_usage(tempfile.gettempdir()).free / 2**30, 1),
        "packages": packages,
    }


if __name__ == "__main__":
    main()
