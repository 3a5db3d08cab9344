"""A small vision transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task


@register("task", "vit", paper="Dosovitskiy et al. 2021, arXiv 2010.11929")
def vit(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    patch_size: Annotated[int, Field(ge=2)] = 8,
    width: Annotated[int, Field(ge=16, multiple_of=4)] = 128,
    depth: Annotated[int, Field(ge=1)] = 4,
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable = "full",
    weights: Path | None = None,
) -> Task:
    """MONAI's vision transformer: patches, learned places, blocks of four heads, a class token and a dense layer.

    0.6 million parameters by default. No layer mixes the images of a batch.

    Args:
        image_shape: (C, H, W), H and W multiples of the patch size.
        seed: The seed of the initial weights.
        patch_size: Pixels of a patch's side.
        width: Of each token, a multiple of 4. From as many as there are patches on, one image's gradient tells the
            image: see attack `april`.
        depth: Blocks.
        num_classes: K.
        mode: Has no effect: there is no dropout. Kept so that every task states it.
        trainable: "full", "head" (the last dense layer), or { lora = R }: low-rank adapters, see `low_rank.adapt`.
        weights: A file with the model's state dict.

    Returns:
        The task, with the cross entropy as its loss.

    Raises:
        BadSetting: the images cannot be cut into such patches.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """
    channels, height, width_of_image = image_shape
    if height % patch_size or width_of_image % patch_size:
        size = f"{height} x {width_of_image}"
        msg = f"task 'vit': patch_size = {patch_size} does not divide images of {size} pixels. Choose one that does."
        raise BadSetting(msg)

    def network() -> nn.Module:
        from monai.networks.nets.vit import ViT  # here, because it takes seconds to import

        return _Logits(
            ViT(
                in_channels=channels,
                img_size=(height, width_of_image),
                patch_size=patch_size,
                hidden_size=width,
                mlp_dim=2 * width,
                num_layers=depth,
                num_heads=4,
                classification=True,
                num_classes=num_classes,
                post_activation="none",
                spatial_dims=2,
                proj_type="conv",
            )
        )

    return make_task(
        "vit",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
    )


class _Logits(nn.Module):
    """The transformer's logits, without what its blocks saw."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, K)."""
        logits: Tensor = self.transformer(images)[0]
        return logits
