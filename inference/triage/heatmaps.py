"""Where on an image triage saw a finding: gradient-weighted attention rollout for vision transformers.

Chefer, Gur and Wolf 2021 (Generic attention-model explainability, ICCV): of every block, the attention weights times the
gradient of the score by them, negative parts dropped, averaged over heads, are the paths along which evidence flows; multiplied
through the blocks, with the residual beside them, they say how much each patch gave to what was pooled at the end. The score is
the embedding's similarity to the finding's direction: positive less negative prompts, or a probe's weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from inference.reading import Decision, Finding, Frame, HeatMap
from inference.triage.attention import Tower, Trace, open_tower, traced, weigh, weight_gradient
from inference.triage.contrastive import Triage
from inference.triage.geometry import seen_box
from inference.triage.image_tower import ImageTower

METHOD: Final = "gradient-weighted attention rollout"
_UPPER_HALF: Final = 2  # blocks below the middle mix neighbours and blur the map; measured in benchmarks/heatmaps.py
_ANY: Final = (512, 512)
_TINY: Final = 1e-30  # no number is divided by nothing
_DECIMALS: Final = 3  # a map is stored as text: 0.001 of its highest value is far below what can be seen

Directions = Mapping[str, NDArray[np.float32]]


def explain(
    triage: Triage, frames: Sequence[Frame], findings: Iterable[Finding], directions: Directions
) -> tuple[HeatMap, ...]:
    """A heat map of every positive finding on the image that decided it, in the order of ``findings``.

    ``directions``: float32 (width,) for each finding's key, what its probability rises along. A finding without a direction,
    or whose image is not among ``frames``, has no map; nor has one that nothing on the image speaks for.
    Raises BundleError for an image tower that cannot be looked into.
    """
    positive = [finding for finding in findings if finding.decision is Decision.POSITIVE and finding.key in directions]
    by_source = {frame.source: frame for frame in frames}
    made: dict[str, HeatMap] = {}
    for source in dict.fromkeys(finding.source for finding in positive):
        if source in by_source:
            keys = [finding.key for finding in positive if finding.source == source]
            maps = heat_maps(triage, by_source[source], {key: directions[key] for key in keys})
            made |= {item.key: item for item in maps if any(map(any, item.values))}
    return tuple(made[finding.key] for finding in positive if finding.key in made)


def check_tower(triage: Triage) -> None:
    """Raises BundleError where this model has no heat maps, at start and not at the first positive finding."""
    open_tower(triage.net)
    seen_box(triage.transform, *_ANY)


def heat_maps(triage: Triage, frame: Frame, directions: Directions) -> tuple[HeatMap, ...]:
    """A heat map of ``frame`` for each direction. Raises BundleError for an image tower that cannot be looked into."""
    net, tower = triage.net, open_tower(triage.net)
    with torch.inference_mode(False), torch.enable_grad():
        device = next(net.parameters()).device
        image = triage.transform(Image.fromarray(frame.pixels))[None].to(device)  # (1, 3, size, size)
        lines = torch.from_numpy(np.stack(list(directions.values()))).to(device)  # (findings, width)
        values = relevance(net, tower, image, lines).cpu().numpy()
    box = seen_box(triage.transform, *frame.size)
    return tuple(HeatMap(key, frame.source, _rounded(grid), box, METHOD) for key, grid in zip(directions, values, strict=True))


def relevance(net: ImageTower, tower: Tower, image: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """How much each patch of one image gave to each score, 0..1, 1 at the highest: (findings, rows, columns).

    ``image``: float32 (1, 3, size, size), normalised. ``directions``: float32 (findings, width). All zeros where nothing
    speaks for the finding. Runs in gradient mode; the parameters' own gradients are left alone.
    """
    first = len(tower.blocks) // _UPPER_HALF
    with traced(tower, first) as trace:
        scores = functional.normalize(net.encode_image(image), dim=-1) @ directions.T  # (1, findings)
    maps = [_rollout(tower, trace, score, first) for score in scores[0]]
    grids = torch.stack(maps).reshape(len(maps), *tower.grid)
    return grids / grids.amax(dim=(1, 2), keepdim=True).clamp(min=_TINY)


def _rollout(tower: Tower, trace: Trace, score: torch.Tensor, first: int) -> torch.Tensor:
    """Relevance of each patch for one score, (patches,), at least 0."""
    numbers = range(first, len(tower.blocks))
    assert trace.last is not None
    wanted = [*(trace.gave[k] for k in numbers), trace.last]
    *gradients, last = torch.autograd.grad(score, wanted, retain_graph=True)
    with torch.no_grad():
        flow = torch.zeros_like(last[0] @ last[0].T)  # (tokens, tokens): what came to each token from the others
        for k, gradient in zip(numbers, gradients, strict=True):
            weights, value = weigh(tower.attentions[k], trace.given[k])
            step = (weights * weight_gradient(tower.attentions[k], value, gradient)).clamp(min=0)[0].mean(dim=0)
            flow = flow + step @ flow + step  # R + A R, without the identity that R begins with
        pooled = last[0].norm(dim=-1)  # (tokens,): which tokens the embedding was pooled from, the class token or all patches
        given: torch.Tensor = (pooled / pooled.sum().clamp(min=_TINY)) @ flow[:, tower.prefix :]
    return given


def _rounded(grid: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(value), _DECIMALS) for value in row) for row in grid)
