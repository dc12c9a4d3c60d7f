"""Run a script in two processes that talk over gloo, as `torchrun` would start them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]


def run_in_two_processes(script: str, folder: Path, *words: str) -> list[dict[str, Any]]:
    """Run `script FOLDER WORDS...`; return what each process wrote to `rank0.json` and `rank1.json`, if it did."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "script.py"
    file.write_text(script)
    paths = [str(PROJECT), str(PROJECT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run(
        [*command, str(file), str(folder), *words], env=environment, capture_output=True, timeout=600
    )
    assert result.returncode == 0, result.stderr.decode()[-3000:]
    return [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]
