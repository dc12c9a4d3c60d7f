"""The labelled sets by name."""

import os
from collections.abc import Callable
from pathlib import Path

from videorm_hf.benchmarks import fetv, genai_bench, t2vqa_db, tvge, vbench
from videorm_hf.benchmarks.benchmark import Benchmark, BenchmarkInfo

# What each set is, and its reader.
BENCHMARKS: dict[str, tuple[BenchmarkInfo, Callable[[Path], Benchmark]]] = {
    module.INFO.name: (module.INFO, module.load) for module in (tvge, t2vqa_db, vbench, fetv, genai_bench)
}


def get_benchmark(name: str, path: str | os.PathLike[str]) -> Benchmark:
    """Read a labelled set from where it lies on disk; nothing is downloaded.

    Args:
        name (`str`): `"tvge"`, `"t2vqa_db"`, `"vbench"`, `"fetv"` or `"genai_bench"`.
        path (`str` or `os.PathLike`): The set's folder, or the file that holds its labels.

    Returns:
        [`Benchmark`]

    Raises:
        ValueError: If there is no set of that name.
        FileNotFoundError: If there is nothing at `path`; the message says where the set comes from.

    Example:

    ```python
    >>> from videorm_hf.benchmarks import get_benchmark

    >>> tvge = get_benchmark("tvge", "path/to/t2v_metrics/datasets")
    >>> pairs = tvge.pairs("alignment")
    ```
    """
    if name not in BENCHMARKS:
        raise ValueError(f"There is no labelled set {name!r}; there are {', '.join(BENCHMARKS)}.")
    info, load = BENCHMARKS[name]
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist. {info.where_to_get}")
    return load(Path(path))
