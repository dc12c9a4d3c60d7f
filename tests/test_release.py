"""What is promised about versions is one thing everywhere: metadata, citation, workflows, Makefile."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PYTHONS = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def test_the_lowest_python_is_the_same_everywhere() -> None:
    lowest = PYTHONS[0]
    assert f'requires-python = ">={lowest}"' in PYPROJECT
    assert f'target-version = "py{lowest.replace(".", "")}"' in PYPROJECT
    assert f'python_version = "{lowest}"' in PYPROJECT
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"sys.version_info < ({lowest.replace('.', ', ')})" in makefile and f"needs Python {lowest} or" in makefile


def test_the_workflows_test_what_is_promised() -> None:
    jobs = workflow("tests")["jobs"]
    assert jobs["newest"]["strategy"]["matrix"]["python"] == PYTHONS
    assert PYTHONS[0] in jobs["lowest"]["strategy"]["matrix"]["python"]
    upstream = workflow("nightly")["jobs"]["upstream"]["strategy"]["matrix"]["upstream"]
    assert {"transformers", "diffusers", "datasets"} <= set(upstream)


def test_a_release_is_tested_and_needs_no_secret() -> None:
    jobs = workflow("release")["jobs"]
    assert jobs["build"]["needs"] == ["tests", "slow-tests"] and jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


def test_every_target_that_a_workflow_makes_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert set(re.findall(r"\bmake ([a-z-]+)", file.read_text(encoding="utf-8"))) <= targets


def test_the_citation_gives_the_version() -> None:
    version = re.search(r'^version = "(.+)"$', PYPROJECT, re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert version is not None and citation["version"] == version[1]
