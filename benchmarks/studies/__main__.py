"""Run studies and write what they found: a JSON file and a figure each, and the page about all of them.

    python -m benchmarks.studies all
    python -m benchmarks.studies reward_accuracy best_of_n
    python -m benchmarks.studies reward_accuracy --smoke    # seconds, tiny settings, writes to the work folder only

A study goes on where it was interrupted; `--work` is where it keeps what it has computed.
"""

import argparse
import logging
import time
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from benchmarks.studies import page
from benchmarks.studies.registry import STUDIES, load_study
from benchmarks.studies.study import Study, Weights, Work, write_json
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI

logger = logging.getLogger(__name__)
DEFAULT_WORK = Path("runs") / "studies"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=["all", "page", *STUDIES], metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--smoke", action="store_true", help="tiny settings; results stay in the work folder")
    parser.add_argument(
        "--work",
        type=Path,
        default=DEFAULT_WORK,
        help="where to keep what is computed, by settings and weights: after a change of code, name another folder",
    )
    parser.add_argument(
        "--videorm", type=Path, default=VIDEORM_MINI, help="folder of another reward: results stay in the work folder"
    )
    parser.add_argument("--pipeline", type=Path, default=T2V_MINI, help="folder of another pipeline: likewise")
    arguments = parser.parse_args()
    for folder in (arguments.videorm, arguments.pipeline):
        if not folder.is_dir():
            parser.error(f"there are no weights in {folder}: run `make miniature`")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    # Models are loaded dozens of times: their own progress bars would hide the studies'.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    names = list(STUDIES) if "all" in arguments.names else [name for name in arguments.names if name != "page"]
    weights = Weights(arguments.videorm, arguments.pipeline)
    work = arguments.work / ("smoke" if arguments.smoke else "full")
    publish = not arguments.smoke and weights == Weights(VIDEORM_MINI, T2V_MINI)
    for name in names:
        run_study(load_study(name), Work(work, weights), arguments.smoke, publish)
        if publish:
            page.write_page()
    if not names:
        page.write_page()


def run_study(study: Study, work: Work, smoke: bool = False, publish: bool = False) -> dict[str, object]:
    """Run one study and write its JSON and its figure.

    Args:
        study ([`Study`]): Which.
        work ([`Work`]): Where it works; each study has a folder of its own in it.
        smoke (`bool`, defaults to `False`): Use the tiny settings.
        publish (`bool`, defaults to `False`): Write what the documentation shows, not into the work folder only.

    Returns:
        `dict`: its results.
    """
    logger.info("%s: %s", study.name, study.title)
    start = time.monotonic()
    own = Work(work.folder / study.name, work.weights)
    results = study.run(study.smoke if smoke else study.full, own)
    results |= {"weights": work.weights.fingerprint, "torch_threads": torch.get_num_threads()}
    results["seconds_of_this_run"] = round(time.monotonic() - start, 1)
    results_path, figure = (
        page.paths(study.name) if publish else (own.folder / "results.json", own.folder / "figure.png")
    )
    write_json(results_path, results)
    study.draw(results, figure)
    logger.info("%s: %.0f s, written to %s and %s", study.name, results["seconds_of_this_run"], results_path, figure)
    return results


if __name__ == "__main__":
    main()
