"""The demo Space of VIDEORM: score clips, compare a tuned pipeline with its base, vote blind in an arena.

`python app.py` starts it on the shipped miniature weights, offline; `python app.py --help` lists the options.
"""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from options import check_port, parse_words

HERE = Path(__file__).parent
MAX_UPLOAD = "64mb"


def main() -> None:
    """Start the Space."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    words = parse_words()
    check_port(words.host, words.port)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it runs
    data = words.data.resolve()
    set_environment(data)
    empty_served(data)
    from miniature_data import prepare
    from page import build_page

    launch(build_page(prepare(words, data)), words.host, words.port)


def set_environment(data: Path) -> None:
    """Tell Gradio, before it is imported, to write and serve in the data folder only, and to call nobody.

    Args:
        data (`Path`): The data folder.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(data / "served")
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(data / "served" / "examples")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def empty_served(data: Path) -> None:
    """Remove what earlier visitors uploaded and sampled, which a killed server leaves; the arena makes its part anew.

    Args:
        data (`Path`): The data folder.
    """
    if (data / "served").exists():
        shutil.rmtree(data / "served")


def launch(page: Any, host: str, port: int, **further: Any) -> None:
    """Serve the page.

    Args:
        page (`gradio.Blocks`): From [`build_page`].
        host (`str`): Address to listen on.
        port (`int`): Where.
        further: Arguments of `Blocks.launch`.
    """
    page.queue(default_concurrency_limit=1, max_size=64)
    page.launch(
        server_name=host,
        server_port=port,
        max_file_size=MAX_UPLOAD,
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        footer_links=[],
        css_paths=HERE / "style.css",
        head_paths=HERE / "keyboard.html",
        **further,
    )


if __name__ == "__main__":
    main()
