"""The first dense layer whose outputs go through ReLU: where it is, and what it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gradiograph.core.errors import BadSetting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradiograph.core.task import Task

_RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_)


@dataclass(frozen=True, kw_only=True)
class ReluLayer:
    """A dense layer z = W x + b followed by ReLU.

    Attributes:
        weight: The name of W (m, n).
        bias: The name of b (m,), None where the layer has none.
        sees_image: Its inputs are the pixels.
    """

    weight: str
    bias: str | None
    sees_image: bool


def first_relu_layer(task: Task) -> ReluLayer:
    """Find the layer by a pass on a noise image.

    Raises:
        BadSetting: there is none, or it is not trained.
    """
    state = task.state()
    names = [f"{place}.weight" for place, layer in task.model.named_modules() if isinstance(layer, nn.Linear)]
    images = torch.rand(2, *task.image_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), _Watch({name: state[name] for name in names}) as watch:
        task.forward(state, images)
    if watch.found is None:
        msg = (
            f"spear needs a dense layer followed by ReLU; task '{task.name}' has none among its "
            f"{len(names)} dense layers. Choose another attack, such as 'rog'."
        )
        raise BadSetting(msg)
    bias = f"{watch.found.removesuffix('weight')}bias"
    frozen = [name for name in (watch.found, bias) if name in state and name not in task.trainable]
    if frozen:
        msg = (
            f"spear reads the gradient of '{frozen[0]}', which task '{task.name}' does not train. "
            "Set trainable = 'full', or choose another attack, such as 'rog'."
        )
        raise BadSetting(msg)
    sees_image = watch.inputs.shape == images.flatten(1).shape and torch.equal(watch.inputs, images.flatten(1))
    return ReluLayer(weight=watch.found, bias=bias if bias in state else None, sees_image=sees_image)


class _Watch(TorchFunctionMode):
    """Finds the first call of ReLU on the outputs of a dense layer with one of these weights."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(weight): name for name, weight in weights.items()}
        self._calls: list[tuple[Tensor, str, Tensor]] = []
        self.found: str | None = None
        self.inputs = torch.empty(0)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - torch's interface
        """Record dense layers on (B, n) inputs, and which one the first ReLU on such outputs belongs to."""
        if func in _RELUS and self.found is None:
            for outputs, name, inputs in self._calls:
                if args[0] is outputs:
                    self.found, self.inputs = name, inputs
        result = func(*args, **(kwargs or {}))
        if func is F.linear and id(args[1]) in self._names and args[0].ndim == 2:
            self._calls.append((result, self._names[id(args[1])], args[0]))
        return result
