"""What SECURITY.md promises: nothing unpickles, evaluates or fetches code unless its user asks."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from videorm_hf.models.clip_checkpoints import load_weights
from videorm_hf.rewards import aesthetic, image_reward
from videorm_hf.videoprefer.prompt_sources import SOURCES

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    file for folder in ("src", "hub_cards", "benchmarks", "docs/examples") for file in (ROOT / folder).rglob("*.py")
)
# Names whose call runs what a file holds; `pickle` itself may be named for the errors it raises.
FORBIDDEN_CALLS = {
    *("eval", "exec", "os.system", "pickle.load", "pickle.loads", "pickle.Unpickler"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "torch.hub.load", "torch.jit.load", "pd.read_pickle"),
}
FORBIDDEN_IMPORTS = {"joblib", "dill", "cloudpickle", "marshal", "shelve"}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def findings(source: str) -> Iterator[str]:
    """What a file does that it should not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.partition(".")[0] in FORBIDDEN_IMPORTS)
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        values = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if name in FORBIDDEN_CALLS:
            yield name
        if name == "torch.load" and values.get("weights_only") is not True:
            yield "torch.load without weights_only=True"
        for option in ("allow_pickle", "trust_remote_code", "shell"):
            if values.get(option) is True:
                yield f"{option}=True"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_code_comes_out_of_a_file(file: Path) -> None:
    assert list(findings(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.loads(data)",
        "from joblib import load",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "yaml.load(text, Loader)",
        "subprocess.run(words, shell=True)",
        "eval(text)",
    ],
)
def test_the_check_sees(source: str) -> None:
    assert list(findings(source))


def test_what_stays_allowed() -> None:
    lines = ("import pickle", "model.eval()", "torch.load(p, weights_only=True)", "yaml.safe_load(t)")
    source = "\n".join([*lines, "except_for = pickle.UnpicklingError"])
    assert list(findings(source)) == []


def test_every_id_that_is_filled_in_is_named() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    sources = [source.default.partition(":")[0] for source in SOURCES.values()]
    assert all(f"`{name}`" in text for name in [image_reward._TOKENIZER, aesthetic._CLIP, *sources])


class Harmful:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_harmful_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "extra": Harmful(harm)}, tmp_path / "HPS_v2_compressed.pt")
    with pytest.raises(ValueError, match="could not be read"):
        load_weights(tmp_path / "HPS_v2_compressed.pt")
    assert not harm.exists()
    torch.load(tmp_path / "HPS_v2_compressed.pt", weights_only=False)
    assert harm.exists()  # it would have
