"""A vision transformer's patches, solved for from the gradients of their embedding and of their places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn.functional import fold

from gradiograph.attacks.likelihoods import seen_update
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task


class _Embedding(NamedTuple):
    """Names of the trained tensors, a patch's side in pixels, and the rows before the first patch's place."""

    weight: str
    places: str
    side: int
    first: int


@register("attack", "april", paper="Lu et al. 2022, arXiv 2112.14087")
@dataclass(frozen=True, kw_only=True)
class April(Attack):
    """The patches of one image, by least squares, for any transformer above their embedding.

    The embedded patches are z_i = W p_i + e_i with a learned place e_i of each, so that the gradient of the place is
    that of the token, dL/de_i = dL/dz_i, and the embedding's is dL/dW = sum_i dL/dz_i p_i^T: D equations for each pixel
    of the N patches. From D >= N on they determine the image, whatever stands above (Lu et al. 2022, section 4, on what
    the gradient of the places gives away). Both gradients are scaled alike, so a delta serves as well.
    Under noise the equations soon tell nothing: the slopes differ little from patch to patch.

    Differs from the paper: its closed form goes through the first attention's weights, and needs a block without a
    residual connection; this one does not look at the blocks.

    Flags: "approximate": the update sums several local steps.
    """

    @property
    def requires(self) -> tuple[str, ...]:
        """The number of images, which must be one."""
        return ("knows_num_examples",)

    def check(self, task: Task) -> None:
        """Patches are embedded by a convolution, their places are learned, and both train; D is at least N.

        Raises:
            BadSetting: they are not.
        """
        _embedding(task)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Solve; see `Attack.__call__`.

        Raises:
            BadSetting: several images are behind the update.
        """
        observation.threat.require("april", *self.requires)
        started = perf_counter()
        if observation.num_examples != 1:
            msg = (
                f"Attack 'april' solves for one image; {observation.num_examples} are behind the update, and the "
                "places tell only the sum of their gradients. Set victims.size = 1, or choose 'map'."
            )
            raise BadSetting(msg)
        task, seen = observation.task, seen_update(observation)
        found = _embedding(task)
        slopes = seen[found.places][0, found.first :].double()
        weight = seen[found.weight].double().flatten(1)
        # Least squares under rounding: directions below it are left out.
        patches = torch.linalg.pinv(slopes.T, rtol=torch.finfo(torch.float32).eps * len(slopes)) @ weight
        image = fold(patches.T[None], task.image_shape[1:], kernel_size=found.side, stride=found.side)
        progress(1.0)
        return Reconstruction(
            images=image.float().cpu().clamp(0, 1),
            targets=None,
            objective=(),
            seconds=perf_counter() - started,
            flags=("approximate",) if (observation.local_steps or 1) > 1 else (),
        )


def _embedding(task: Task) -> _Embedding:
    shapes = {name: tensor.shape for name, tensor in task.state().items() if name in task.trainable}
    for name, layer in task.model.named_modules():
        weight = f"{name}.weight"
        if not (isinstance(layer, nn.Conv2d) and layer.kernel_size == layer.stride and weight in shapes):
            continue
        side, width = int(layer.kernel_size[0]), layer.out_channels
        patches = (task.image_shape[1] // side) * (task.image_shape[2] // side)
        for places, shape in shapes.items():
            if len(shape) != 3 or shape[0] != 1 or shape[2] != width or shape[1] not in (patches, patches + 1):
                continue
            if width < patches:
                msg = (
                    f"Attack 'april' needs tokens at least as wide as there are patches; task '{task.name}' has "
                    f"{width} for {patches} patches. Choose 'map'."
                )
                raise BadSetting(msg)
            return _Embedding(weight, places, side, int(shape[1]) - patches)
    msg = (
        f"Attack 'april' needs a vision transformer whose patch embedding and places train; task '{task.name}' has "
        "none. Choose 'unmixing' or 'map'."
    )
    raise BadSetting(msg)
