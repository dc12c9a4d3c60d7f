"""Environments of their own for the original packages, whose pins no environment of ours could hold."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import open_clip

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "videorm-hf"
WORKERS = Path(__file__).parent


@dataclass(frozen=True)
class Environment:
    """A package and what must stand beside it for it to be imported today.

    Args:
        name (`str`):
            Of the folder in the user's cache.
        packages (`tuple[str, ...]`):
            What is installed besides this project's torch and torchvision.
        missing_files (`tuple[str, ...]`):
            Files of open_clip that the package's wheel lacks, by their folder in the package and their name.
    """

    name: str
    packages: tuple[str, ...]
    missing_files: tuple[str, ...] = ()

    def run(self, worker: str, folder: Path) -> None:
        """Let a script of this folder do the job that lies in `folder`, which is also where it runs."""
        # Without a hub: the packages then find everything in the folder, or fail at once.
        surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "HPS_ROOT": str(folder)}
        command = [str(self.python()), str(WORKERS / worker)]
        done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{worker} failed in {self.name}:\n{done.stderr[-4000:]}"

    def python(self) -> Path:
        """Return the environment's interpreter; the environment is made on the first call."""
        folder = CACHE / self.name
        python, made = folder / "bin" / "python", folder / ".made"
        packages = [*self.packages, *(f"{name}=={version(name)}" for name in ("torch", "torchvision"))]
        if not made.is_file() or made.read_text(encoding="utf-8") != "\n".join(packages):
            uv = [sys.executable, "-m", "uv"]
            subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
            subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *packages], check=True)
            for file in self.missing_files:
                (place,) = folder.glob(f"lib/python*/site-packages/{Path(file).parent}")
                shutil.copy(Path(open_clip.__file__).with_name(Path(file).name), place)
            made.write_text("\n".join(packages), encoding="utf-8")
        return python


# The wheel of hpsv2 1.2.0 lacks CLIP's vocabulary, which its own code reads on import.
HPSV2 = Environment(
    "hpsv2-1.2.0",
    ("hpsv2==1.2.0", "transformers==4.57.1", "timm==1.0.22", "setuptools==80.9.0"),
    missing_files=("hpsv2/src/open_clip/bpe_simple_vocab_16e6.txt.gz",),
)
# Its code imports from places that later releases of transformers, datasets and setuptools have emptied, and `clip`,
# which its requirements do not name.
IMAGE_REWARD = Environment(
    "image-reward-1.5",
    (
        "image-reward==1.5",
        "transformers==4.40.2",
        "diffusers==0.31.0",
        "accelerate==0.34.2",
        "datasets==3.6.0",
        "huggingface-hub==0.36.2",
        "openai-clip==1.0.1",
        "setuptools==80.9.0",
    ),
)
