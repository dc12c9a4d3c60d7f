"""Video sets that people have labelled, read from their published layouts: one file a set."""

from videorm_hf.benchmarks.benchmark import Benchmark, BenchmarkInfo
from videorm_hf.benchmarks.registry import BENCHMARKS, get_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkInfo", "get_benchmark"]
