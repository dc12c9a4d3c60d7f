"""The studies by name, in the order of the page; each is imported when it is run or shown."""

import importlib

from benchmarks.studies.study import Study

STUDIES = (
    "judge_vs_truth",
    "dataset_statistics",
    "reward_accuracy",
    "reward_ablations",
    "shift_placement",
    "best_of_n",
    "tuning_choice",
    "draftv",
    "k_and_where",
    "reward_curves",
    "lora_scale",
    "hacking",
)


def load_study(name: str) -> Study:
    """Return a study by its name, one of `STUDIES`."""
    return importlib.import_module(f"benchmarks.studies.{name}").STUDY
