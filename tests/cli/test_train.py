"""`videorm train` and its recipes."""

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoModel
from typer.testing import CliRunner

from tests.trainer.factories import coloured_clip, small_folder
from tests.video_factory import write_video
from videorm_hf.cli.train import parser
from videorm_hf.cli.videoprefer import app as videoprefer
from videorm_hf.cli.videorm import app
from videorm_hf.cli.yaml_options import parse_options

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.yaml"))
COLOURS = ["red", "green", "blue", "grey"]


def videorm_train(*words):
    return CliRunner().invoke(app, ["train", *map(str, words)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_folder(tmp_path_factory.mktemp("model") / "videorm")


def working_folder(folder, num_items=3, bad=False):
    """A VIDEOPREFER working folder of small videos, each rated in both dimensions."""
    (folder / "videos").mkdir(parents=True)
    items, ratings = [], []
    for i in range(num_items):
        candidates = []
        for j in range(4):
            video = f"videos/{i}-{j}.mp4"
            write_video(folder / video, coloured_clip(COLOURS[(i + j) % 4], 10 * i + j), fps=8, codec="mpeg4")
            candidates.append(
                {
                    "candidate_id": f"c{j}",
                    "video": video,
                    "model": f"m{j}",
                    "is_real": False,
                    "guidance_scale": None,
                    "seed": None,
                }
            )
            for dimension in ("prompt_following", "video_quality"):
                rating = 9 if bad and (i, j) == (0, 0) else 5 - j
                judge = {"model": "test", "rubric_version": "1", "num_frames": 8, "temperature": 0.3}
                ratings.append(
                    {
                        "item_id": f"i{i}",
                        "candidate_id": f"c{j}",
                        "dimension": dimension,
                        "rating": rating,
                        "rationale": "so",
                        "failure": None,
                        "judge": judge,
                    }
                )
        items.append(
            {
                "item_id": f"i{i}",
                "prompt": f"a {COLOURS[i % 4]} square",
                "prompt_source": "test",
                "candidates": candidates,
            }
        )
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "ratings.jsonl").write_text("".join(json.dumps(rating) + "\n" for rating in ratings))
    return folder


def preference_folder(folder, num_rows=4):
    """What `load_dataset` reads as the preference view: videos beside a table that names them."""
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        rows = []
        for i in range(num_rows):
            for name, colour in (("chosen", i), ("rejected", i + 1)):
                write_video(
                    folder / split / f"{i}-{name}.mp4", coloured_clip(COLOURS[colour % 3], 2 * i), fps=8, codec="mpeg4"
                )
            rows.append(
                {
                    "prompt": f"a {COLOURS[i % 3]} square",
                    "margin": 1.0,
                    "chosen_file_name": f"{i}-chosen.mp4",
                    "rejected_file_name": f"{i}-rejected.mp4",
                }
            )
        (folder / split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


SHORT = (
    "--report_to",
    "none",
    "--use_cpu",
    "true",
    "--max_steps",
    "2",
    "--per_device_train_batch_size",
    "2",
    "--save_strategy",
    "no",
)


def test_a_run_from_a_file_over_both_kinds_of_folder(tmp_path, model):
    config = tmp_path / "run.yaml"
    settings = {
        "model": model,
        "train_data": [str(working_folder(tmp_path / "videoprefer")), str(preference_folder(tmp_path / "human"))],
        "eval_data": str(tmp_path / "human"),
        "output_dir": str(tmp_path / "out"),
        "dataset_proportions": {"videoprefer": 0.5, "human": 0.5},
        "cache_features": True,
        "learning_rate": "1e-3",
        "max_steps": 50,
    }
    config.write_text(yaml.safe_dump(settings))
    result = videorm_train("--config", config, *SHORT)
    assert result.exit_code == 0, result.output + str(result.exception)
    facts = json.loads((tmp_path / "out" / "videorm_training.json").read_text())
    assert facts["sets"]["videoprefer"]["pairs"] == 18 and facts["sets"]["human"]["rows"] == 4
    assert facts["training"]["steps"] == 2 and facts["training"]["learning_rate"] == 1e-3
    assert facts["evaluation"]["eval_num_pairs"] == 4
    assert json.loads((tmp_path / "out" / "eval_results.json").read_text())["eval_num_pairs"] == 4
    AutoModel.from_pretrained(tmp_path / "out")


def test_resume_goes_on_and_lora_trains(tmp_path, model):
    words = ["--model", model, "--train_data", working_folder(tmp_path / "data"), "--output_dir", tmp_path / "out"]
    words += [*SHORT, "--save_strategy", "steps", "--save_steps", "1", "--lora_r", "2"]
    assert videorm_train(*words, "--max_steps", "1").exit_code == 0
    result = videorm_train(*words, "--resume")
    assert result.exit_code == 0 and "Going on from" in result.output
    assert (tmp_path / "out" / "checkpoint-2").is_dir() and (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_ratings_out_of_range_are_set_aside_and_counted(tmp_path, model):
    data = working_folder(tmp_path / "data", bad=True)
    result = videorm_train("--model", model, "--train_data", data, "--output_dir", tmp_path / "out", *SHORT)
    assert result.exit_code == 0 and "problems, whose items are set aside" in result.output
    assert json.loads((tmp_path / "out" / "videorm_training.json").read_text())["sets"]["data"]["rows"] == 2


def table_of_pairs(folder):
    """A table of two pairs, with paths that start from its folder."""
    (folder / "clips").mkdir(parents=True)
    for name, colour in (("a", 0), ("b", 1), ("c", 2)):
        write_video(folder / "clips" / f"{name}.mp4", coloured_clip(COLOURS[colour], colour), fps=8, codec="mpeg4")
    rows = [{"prompt": f"a {COLOURS[i]} square", "chosen": f"clips/{'ab'[i]}.mp4"} for i in range(2)]
    table = folder / "pairs.jsonl"
    table.write_text("".join(json.dumps(row | {"rejected": "clips/c.mp4"}) + "\n" for row in rows))
    return table


def test_a_table_of_pairs_is_enough(tmp_path, model, monkeypatch):
    table = table_of_pairs(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    result = videorm_train("--model", model, "--train_data", "mine/pairs.jsonl", "--output_dir", "out", *SHORT)
    assert result.exit_code == 0, result.output + str(result.exception)
    facts = json.loads((tmp_path / "out" / "videorm_training.json").read_text())
    assert facts["sets"]["pairs.jsonl"]["pairs"] == 2 and "0 clips were left out" in result.output

    on_itself = videorm_train("--model", model, "--train_data", table, "--eval_data", table, "--output_dir", "out")
    assert on_itself.exit_code == 2 and "no splits" in on_itself.output
    whole = table.read_text()
    table.write_text(whole.replace("c.mp4", "absent.mp4"))
    result = videorm_train("--model", model, "--train_data", table, "--output_dir", "nothing", *SHORT)
    assert result.exit_code == 2 and "nothing was trained" in result.output and "(missing)" in result.output
    assert not (tmp_path / "nothing" / "model.safetensors").exists()
    table.write_text(whole.replace("rejected", "worse", 1))
    result = videorm_train("--model", model, "--train_data", table, "--output_dir", "out", *SHORT)
    assert result.exit_code == 2 and "must be a preference view" in result.output and "'worse'" in result.output


def test_what_build_wrote_is_trained_on_by_its_view(tmp_path, model):
    data = working_folder(tmp_path / "set")
    halves = ("--split", "train=0.5", "--split", "test=0.5", "--num-workers", "0")
    assert CliRunner().invoke(videoprefer, ["build", str(data), *halves]).exit_code == 0
    words = ("--model", model, "--train_data", data / "built", "--output_dir", tmp_path / "out", *SHORT)
    result = videorm_train(*words)
    choices = "choose one with --dataset_config ratings or --dataset_config preference, got None"
    assert result.exit_code == 2 and choices in result.output
    for view in ("ratings", "preference"):
        result = videorm_train(*words, "--dataset_config", view, "--eval_data", data / "built")
        assert result.exit_code == 0, result.output + str(result.exception)
    result = videorm_train(*words, "--dataset_config", "ratings", "--eval_data", data / "built", "--eval_split", "dev")
    assert result.exit_code == 2 and 'Unknown split "dev". Should be one of ' in result.output
    assert "--train_split train, --eval_split dev" in result.output


def test_a_folder_that_datasets_cannot_read_is_an_error_in_words(tmp_path, model):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.json").write_text('{"prompt": "one"}')
    (tmp_path / "data" / "b.json").write_text("{")
    result = videorm_train("--model", model, "--train_data", tmp_path / "data", "--output_dir", tmp_path / "out")
    assert result.exit_code == 2 and "data could not be read as a data set: " in result.output


def test_ratings_under_another_name_are_asked_for(tmp_path, model):
    data = working_folder(tmp_path / "data")
    (data / "ratings.jsonl").rename(data / "people.jsonl")
    words = ("--model", model, "--train_data", data, "--output_dir", tmp_path / "out", *SHORT)
    result = videorm_train(*words)
    message = "data has no rating in ratings.jsonl: name its rating file with --ratings"
    assert result.exit_code == 2 and message in result.output
    assert videorm_train(*words, "--ratings", "people.jsonl").exit_code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"--dimensions": "quality"},
            "data is not rated in quality: dimensions must be among mean, prompt_following, v",
        ),
        ({"--train_data": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"--train_data": "nowhere.jsonl"}, "there is no nowhere.jsonl: a data set may be a table of pairs"),
        ({"--eval_data": "nowhere.csv"}, "there is no nowhere.csv: a data set may be a table of pairs"),
        ({"--train_data": "nowhere"}, "A data set must be a folder, or a Hub id such as owner/name: got 'nowhere'"),
        ({"--model": "nowhere"}, "model must be a folder, or a Hub id such as owner/name: got 'nowhere'"),
        ({"--num_frames": 9}, "max_frames=8: got 9"),
        ({"--lora_alpha": 3}, "belong to --lora_r"),
        ({"--colour": "red"}, "Unknown options: --colour red"),
        ({"--eval_data": "data"}, "no splits"),
        ({"--cache_features": "true", "--trainable": "all"}, "features that stay the same"),
    ],
)
def test_what_cannot_be_run_is_named_with_exit_code_two(tmp_path, model, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    working_folder(tmp_path / "data")
    words = {"--model": model, "--train_data": "data", "--output_dir": "out", **change}
    result = videorm_train(*[word for pair in words.items() for word in pair], *SHORT)
    assert result.exit_code == 2 and message in result.output


def test_a_required_option_that_is_absent_is_named_in_few_lines():
    result = videorm_train("--train_data", "data")
    assert result.exit_code == 2 and "required: --model" in result.output
    assert len(result.output.splitlines()) < 5


def test_help_lists_own_and_trainers_options():
    result = videorm_train("--help")
    assert result.exit_code == 0
    assert all(word in result.output for word in ("--train_data", "--trainable", "--learning_rate", "--config"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid(recipe):
    options, args = parse_options(parser(), ["--config", str(recipe), "--use_cpu", "true"])
    assert args.num_frames == 8
    if recipe.stem == "small":
        return
    assert args.learning_rate == 1e-5 and args.bf16 and args.trainable == "temporal"
    assert 8 * args.per_device_train_batch_size == 64  # the paper's, on eight devices
    if args.dataset_proportions:
        assert set(args.dataset_proportions) == set(options.train_data)


def test_the_ablations_recipes_are_the_heads_of_equal_size():
    from tests.trainer.test_reward_models import HEADS

    for name in ("conv1d", "lstm"):
        recipe = yaml.safe_load((ROOT / "docs" / "recipes" / f"videorm_{name}.yaml").read_text())
        assert recipe["model_init_kwargs"] == HEADS[name]


def test_the_small_recipe_runs(tmp_path, model):
    data = working_folder(tmp_path / "data")
    words = ["--config", ROOT / "docs" / "recipes" / "small.yaml", "--model", model, "--train_data", data]
    result = videorm_train(*words, "--output_dir", tmp_path / "out", "--num_frames", "4", "--num_train_epochs", "2")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert (tmp_path / "out" / "model.safetensors").is_file()
