"""Order videos of one prompt, best first, by any reward of the collection.

    python docs/examples/score_videos.py a.mp4 b.mp4 --prompt "people ride bikes"

By default HPS v2.1 is fetched from the Hub (once, gigabytes) and averaged over 8 frames of each video. A VIDEORM is
named by its folder, PickScore as `--reward pick_score:yuvalkirstain/PickScore_v1`: docs/guides/rewards.md lists all. A
file that cannot be scored costs a line with the reason, not the run.
"""

import argparse

from videorm_hf.evaluation.score_store import ScoreStore
from videorm_hf.evaluation.video_scores import (
    ScoringSettings,
    VideoRequest,
    frames_for,
    reward_settings,
    score_requests,
)
from videorm_hf.reporting.tables import print_table
from videorm_hf.rewards import load_reward


def main() -> None:
    """Score the videos and print them, best first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", help="video files")
    parser.add_argument("--prompt", required=True, help="what the videos were to show")
    parser.add_argument("--reward", default="hps_v2.1:xswu/HPSv2", help="NAME:SOURCE, or the folder of a VIDEORM")
    parser.add_argument("--scores", help="file in which scores are kept, so that the next run goes on (.jsonl)")
    parser.add_argument("--num-workers", type=int, help="decoding processes; by default all cores but one")
    options = parser.parse_args()

    reward = load_reward(options.reward)
    requests = [VideoRequest(video, options.prompt) for video in options.videos]
    store = ScoreStore(options.scores, reward_settings(reward, options.reward, frames_for(reward)))
    found = score_requests(reward, requests, store, ScoringSettings(num_workers=options.num_workers))

    ranked = sorted(found.rewards.items(), key=lambda entry: -entry[1])
    print_table([{"reward": value, "video": request.video} for request, value in ranked], title=options.prompt)
    for request, failure in found.failures.items():
        print(f"not scored: {request.video} ({failure.reason}: {failure.message})")


if __name__ == "__main__":  # decoding runs in processes of its own, which import this file
    main()
