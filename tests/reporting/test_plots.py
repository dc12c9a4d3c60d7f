from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videorm_hf.reporting import plots


def test_each_chart_is_a_png_that_differs_with_its_facts(tmp_path: Path) -> None:
    def draw(value: float) -> list[np.ndarray]:
        names = ("bars", "lines", "histograms", "matrix", "row")
        files = {name: tmp_path / "new" / f"{name}.png" for name in names}
        plots.bar_chart(
            files["bars"], ["x", "y"], {"r": [0.5, value], "s": [0.1, 0.2]}, ylabel="accuracy", title="t",
            intervals={"r": [(0.4, 0.6), (value - 0.1, value + 0.1)]}, reference=0.5,
        )  # fmt: skip
        plots.line_chart(
            files["lines"], {"r": ([1, 2], [0.1, value])}, xlabel="n", ylabel="w", title="t",
            intervals={"r": [(0.0, 0.2), (0.1, 0.9)]},
        )  # fmt: skip
        plots.histograms(files["histograms"], {"a": {1: 3, 2: int(10 * value)}, "b": {2: 1}}, xlabel="x", title="t")
        plots.heat_map(
            files["matrix"], [[1, 2], [3, value]], ["a", "b"], ["c", "d"], xlabel="x", ylabel="y", title="t"
        )
        plots.chart_row(
            files["row"],
            {
                "bars": lambda axes: plots.draw_bars(axes, ["x", "y"], {"r": [0.5, value]}, ylabel="accuracy"),
                "lines": lambda axes: plots.draw_lines(axes, {"r": ([1, 2], [0.1, 0.3])}, xlabel="n", ylabel="w"),
            },
            title="t",
        )
        return [np.asarray(Image.open(file)) for file in files.values()]

    for first, second, again in zip(draw(0.7), draw(0.2), draw(0.7), strict=True):
        assert first.shape == again.shape and (first == again).all()
        assert first.shape != second.shape or (first != second).any()


def test_bars_have_the_colours_asked_for_and_a_narrow_chart_is_small(tmp_path: Path) -> None:
    series, colors = {"win": [60.0], "lose": [40.0]}, {"win": "#1b9e77", "lose": "#d95f02"}
    for name, narrow in (("wide", False), ("narrow", True)):
        plots.bar_chart(tmp_path / f"{name}.png", ["x"], series, ylabel="%", title="t", colors=colors, narrow=narrow)
    wide, small = (Image.open(tmp_path / f"{name}.png").convert("RGB") for name in ("wide", "narrow"))
    assert small.width < wide.width and small.height < wide.height
    for image in (wide, small):
        seen = {color for _, color in image.getcolors(2**24)}
        assert {(0x1B, 0x9E, 0x77), (0xD9, 0x5F, 0x02)} <= seen
        assert (0x1F, 0x77, 0xB4) not in seen  # matplotlib's first


def test_intervals_must_match_the_values(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        plots.bar_chart(tmp_path / "x.png", ["a"], {"r": [1.0]}, ylabel="", title="", intervals={"r": []})
