"""ScoreMLP: five linear layers from a feature to a score, the head of ImageReward and of the aesthetic predictor.

There is no activation between them, so the whole is one affine map, and the mean over scores is the score of the
mean. The originals have dropout between layers while they train; here the head is taken over as trained, and has none.
"""

from collections import OrderedDict

import torch
from torch import nn

_WIDTHS = (1024, 128, 64, 16, 1)
# Numbers of the linear layers in the originals, which count their dropout too.
_NUMBERS = (0, 2, 4, 6, 7)


class ScoreMLP(nn.Module):
    """Map features to scores, under the parameter names of the published weights (`layers.{0,2,4,6,7}`).

    Args:
        input_size (`int`):
            Width of the features; 768 in both published models.

    Reference:
        Xu et al. 2023 (ImageReward); the LAION aesthetic predictor. Differs: no dropout.
    """

    def __init__(self, input_size: int) -> None:
        super().__init__()
        widths = [input_size, *_WIDTHS]
        linears = [nn.Linear(*pair) for pair in zip(widths, widths[1:], strict=False)]
        self.layers = nn.Sequential(OrderedDict(zip(map(str, _NUMBERS), linears, strict=True)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features `(..., input_size)` to scores `(...)`."""
        return self.layers(features).squeeze(-1)
