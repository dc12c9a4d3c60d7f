"""Have a multimodal judge rate every video of a working folder, and look at the pairs that come of it.

    pip install "transformers[serving]" && transformers serve Qwen/Qwen2.5-VL-7B-Instruct --port 8000
    python docs/examples/annotate_folder.py my-set --base-url http://localhost:8000/v1

Any server that speaks the chat-completions protocol with images will do. A hosted one: `--model gpt-4o`, without
`--base-url` and with the key in OPENAI_API_KEY. The same command goes on where an interrupted run ended, and pays for
no answer twice. `--dry-run` says what would be asked. build_dataset.py makes a working folder from a table of videos.
The judge's ratings are `my-set/ratings.jsonl`, which no one else may write.
"""

import argparse
from pathlib import Path

from videorm_hf.annotation import AnnotationOptions, VideoAnnotator
from videorm_hf.reporting.tables import print_table
from videorm_hf.videoprefer.pairs import make_preference_pairs
from videorm_hf.videoprefer.working_folder import read_items


def main() -> None:
    """Ask, then show each prompt's ratings and pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="working folder: items.jsonl and the videos it names")
    parser.add_argument("--model", default="Qwen/Qwen2.5-VL-7B-Instruct", help="the judge, as its server calls it")
    parser.add_argument("--base-url", help="where its API starts; OpenAI's by default")
    parser.add_argument("--num-frames", type=int, default=8, help="frames of each video that the judge sees")
    parser.add_argument("--concurrency", type=int, default=4, help="calls at the same time")
    parser.add_argument("--dry-run", action="store_true", help="say what would be asked, and ask nothing")
    options = parser.parse_args()

    judge = AnnotationOptions(
        model=options.model,
        base_url=options.base_url,
        num_frames=options.num_frames,
        temperature=0.3,
        concurrency=options.concurrency,
    )
    annotator = VideoAnnotator(judge)
    items = list(read_items(options.folder, ratings=(), num_candidates=None))
    journal = options.folder / "ratings.jsonl"
    forecast = annotator.forecast(items, journal)
    print(f"{forecast.num_calls} calls to make, {forecast.num_before} were made before")
    if options.dry_run:
        return

    summary = annotator.run(items, options.folder, journal)
    print(f"{summary.num_answered} ratings in {summary.seconds:.0f} s; failed: {dict(summary.failures) or 'none'}")
    if summary.num_failed_before:
        print(f"{summary.num_failed_before} failed in earlier runs; run(..., retry_failures=True) asks them again")
    if summary.stopped is not None:
        raise SystemExit(f"Stopped: {summary.stopped}. The same command goes on.")

    rows = []
    for item in read_items(options.folder, num_candidates=None):
        ratings = [f"{video.model} {video.ratings}" for video in item.candidates]
        pairs = make_preference_pairs(item)
        rows.append({"prompt": item.prompt, "ratings": "\n".join(ratings), "pairs": len(pairs)})
    print_table(rows, title="Rated")


if __name__ == "__main__":  # decoding runs in processes of its own, which import this file
    main()
