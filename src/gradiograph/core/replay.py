"""The attacker's replay of a client's round: what is expected of the update of candidate images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.tensors import Belief

if TYPE_CHECKING:
    from gradiograph.core.defence import Defence
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Batch, Tensors


def replay(task: Task, state: Tensors, protocol: Protocol, defence: Defence | None, batch: Batch) -> Belief:
    """The update before the channels on it, differentiable in the batch.

    Under a defence on examples, what is replayed is the mean over its noise and its sampling of mini-batches, with the
    variance that the noise gives. Exact for one step on all images. For more steps an approximation: what the noise of
    one step changes in the gradients of the next ones, and the sampling's own variance, are left out.

    Args:
        task: Model, loss and mode.
        state: Weights and buffers before the round.
        protocol: What the client does in it.
        defence: Its channel, of which only the stage that acts on examples counts here; None where it is hidden.
        batch: The candidate, as large as the client's.

    Raises:
        BadInput: the defence acts on examples, and the local optimiser is not linear in the gradient.
    """
    mean = protocol.local_update(task, state, batch, None, differentiable=True, defence=defence).tensors
    stage = defence.example_stage if defence is not None else None
    if stage is None:
        return Belief(mean)
    noise = stage.step_variance(protocol.sample_rate(len(batch)) * len(batch)) * protocol.noise_gain(len(batch))
    if not noise:
        return Belief(mean)
    return Belief(mean, {name: tensor.new_full((), noise).expand_as(tensor) for name, tensor in mean.items()})
