"""What figures depend on, for the JSON files beside them."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe_machine(*packages: str, **more: Any) -> dict[str, Any]:
    """Return the processor's name, what else is given, and the versions of Python and packages."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        **more,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
