"""The networks that are trained: shapes, weights, modes, and the user's own model."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap

import gradiograph.tasks  # noqa: F401 - registers the tasks
from gradiograph.core.errors import BadInput, BadSetting, WeightsProblem
from gradiograph.core.random import stream
from gradiograph.core.registry import build, component, components
from gradiograph.core.task import Task, buffer_change, copy_buffers, mean_gradient
from gradiograph.core.tensors import Batch
from gradiograph.tasks import cross_entropy

# ResNet-18 and DenseNet-121 for 3 channels and 1000 classes have 11,689,512 and 7,978,856 parameters as published.
RESNET_BODY = 11_689_512 - 1000 * (512 + 1)
RESNET_NORM = 2 * 4800
COUNTS = {
    "lenet": 32 * (3 * 25 + 1) + 64 * (32 * 25 + 1) + 64 * 8 * 8 * 512 + 2 * 512,
    "resnet18": RESNET_BODY + 2 * (512 + 1),
    "resnet18_groupnorm": RESNET_BODY + 2 * (512 + 1),
    "resnet_wide_head": RESNET_BODY - RESNET_NORM + 2 * 512 * 64,
    "densenet121": 7_978_856 - 1000 * (1024 + 1) + 2 * (1024 + 1),
}
HEADS = {
    "lenet": ("9.weight",),
    "resnet18": ("fc.weight", "fc.bias"),
    "resnet18_groupnorm": ("fc.weight", "fc.bias"),
    "resnet_wide_head": ("12.weight",),
    "densenet121": ("class_layers.out.weight", "class_layers.out.bias"),
}
NETWORKS = tuple(COUNTS)


def films(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=stream(seed, "films"))


def make(name: str, shape: tuple[int, int, int] = (3, 32, 32), seed: int = 7, **config: object) -> Task:
    task = build("task", {"use": name, **config}, shape, seed)
    assert isinstance(task, Task)
    return task


def test_every_task_of_the_room_is_in_the_table() -> None:
    assert {entry.name for entry in components("task")} == {
        *NETWORKS,
        "custom",
        "dilated_net",
        "monai_unet",
        "small_cnn",
        "unet",
        "vit",
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_network_has_the_published_size_and_one_logit_per_class(name: str) -> None:
    task = make(name)
    assert sum(parameter.numel() for parameter in task.model.parameters()) == COUNTS[name]
    assert task.forward(task.state(), films(1, 3, 3, 32, 32)).shape == (3, 2)
    assert task.trainable == tuple(key for key, _ in task.model.named_parameters())
    assert (task.name, task.mode, task.num_classes, task.image_shape) == (name, "train", 2, (3, 32, 32))
    assert task.model.training


@pytest.mark.parametrize("name", NETWORKS)
def test_grey_images_more_classes_eval_mode_and_the_head_alone(name: str) -> None:
    task = make(name, (1, 32, 48), num_classes=3, mode="eval", trainable="head")
    assert task.forward(task.state(), films(1, 1, 1, 32, 48)).shape == (1, 3)
    assert task.trainable == HEADS[name]
    assert task.mode == "eval"
    assert not any(module.training for module in task.model.modules())


def test_lenet_of_the_rog_paper_has_33_6_million_parameters_in_its_first_dense_layer() -> None:
    dense = make("lenet", (3, 128, 128)).state()["7.weight"]
    assert dense.shape == (512, 65536)
    assert dense.numel() == 33_554_432


@pytest.mark.parametrize("name", ["lenet", "resnet_wide_head", "densenet121"])
def test_weights_depend_on_the_seed_alone(name: str) -> None:
    shape = (1, 32, 32)
    before = torch.get_rng_state()
    first = make(name, shape).state()
    torch.rand(5)
    again, other = make(name, shape).state(), make(name, shape, seed=8).state()
    assert all(torch.equal(first[key], again[key]) for key in first)
    head = HEADS[name][0]
    assert not torch.equal(first[head], other[head])
    torch.set_rng_state(before)
    make(name, shape)
    assert torch.equal(torch.get_rng_state(), before)


def test_state_is_a_detached_copy() -> None:
    task = make("lenet", (1, 8, 8))
    state = task.state()
    for tensor in state.values():
        assert not tensor.requires_grad
        tensor.zero_()
    assert all(float(tensor.detach().abs().sum()) > 0 for tensor in task.model.parameters())


def test_batchnorm_in_train_mode_changes_the_state_and_never_the_model() -> None:
    task = make("resnet18", (1, 32, 32))
    own = {key: buffer.clone() for key, buffer in task.model.named_buffers()}
    state = task.state()
    task.forward(state, films(1, 4, 1, 32, 32))
    changes = buffer_change(own, {key: state[key] for key in own})
    assert len(changes) == 40
    assert all(float(change.abs().max()) > 0 for change in changes.values())
    assert all(torch.equal(buffer, own[key]) for key, buffer in task.model.named_buffers())
    assert own["bn1.num_batches_tracked"] == 0


def test_batchnorm_in_eval_mode_leaves_the_state() -> None:
    task = make("resnet18", (1, 32, 32), mode="eval")
    state = task.state()
    task.forward(state, films(1, 4, 1, 32, 32))
    assert all(torch.equal(tensor, state[key]) for key, tensor in task.state().items())


@pytest.mark.parametrize("name", ["resnet_wide_head", "resnet18_groupnorm"])
def test_gradients_per_example_average_to_the_mean_gradient(name: str) -> None:
    task = make(name, (1, 16, 16), trainable="full")
    assert not copy_buffers(task, task.state())
    assert not any(getattr(module, "inplace", False) for module in task.model.modules())
    state, images, targets = task.state(), films(3, 3, 1, 16, 16), torch.tensor([0, 1, 1])

    def loss(weights: dict[str, torch.Tensor], image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return task.loss(task.forward(weights, image[None]), target[None]).sum()

    each = vmap(grad(loss), in_dims=(None, 0, 0))(state, images, targets)
    together = mean_gradient(task, state, Batch(images, targets))
    for key, gradient in together.items():
        torch.testing.assert_close(each[key].mean(dim=0), gradient, rtol=1e-3, atol=1e-5)


def test_activations_without_normalisation_stay_in_range() -> None:
    task = make("resnet_wide_head", (3, 128, 128))
    features = films(5, 2, 3, 128, 128)
    sizes = []
    with torch.no_grad():
        for layer in task.model:
            features = layer(features)
            sizes.append(float(features.square().mean().sqrt()))
            assert layer is not task.model[9] or features.shape == (2, 512, 8, 8)
    assert all(0.1 < size < 2 for size in sizes)
    assert all(float(value.norm()) > 1e-4 for value in first_gradient(task).values())


def first_gradient(task: Task) -> dict[str, torch.Tensor]:
    return mean_gradient(task, task.state(), Batch(films(6, 2, *task.image_shape), torch.tensor([0, 1])))


def test_head_alone_sends_the_gradient_of_the_head() -> None:
    whole, head = make("lenet", (1, 8, 8)), make("lenet", (1, 8, 8), trainable="head")
    assert tuple(first_gradient(head)) == HEADS["lenet"]
    assert torch.equal(first_gradient(head)["9.weight"], first_gradient(whole)["9.weight"])


def tiny(seed: int) -> Task:
    generator = stream(seed, "tiny")
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    names = tuple(name for name, _ in model.named_parameters())
    return Task(
        name="tiny",
        model=model,
        loss=cross_entropy,
        image_shape=(1, 4, 4),
        num_classes=3,
        mode="train",
        trainable=names,
    )


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_mean_gradient_is_that_of_plain_autograd(seed: int, size: int) -> None:
    task, generator = tiny(seed), stream(seed, "batch")
    images = torch.rand(size, 1, 4, 4, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (size,), generator=generator)
    got = mean_gradient(task, task.state(), Batch(images, targets))
    nn.functional.cross_entropy(task.model(images), targets).backward()
    for name, parameter in task.model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad)


def test_mean_gradient_is_that_of_finite_differences() -> None:
    task, step = tiny(3), 1e-6
    batch = Batch(films(4, 2, 1, 4, 4).double(), torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64))

    def loss(name: str, place: tuple[int, ...], change: float) -> float:
        state = task.state()
        state[name][place] += change
        return float(task.loss(functional_call(task.model, state, (batch.images,)), batch.targets).mean().detach())

    for name, gradient in mean_gradient(task, task.state(), batch).items():
        for place in itertools.product(*map(range, gradient.shape)):
            slope = (loss(name, place, step) - loss(name, place, -step)) / (2 * step)
            assert float(gradient[place]) == pytest.approx(slope, abs=1e-8)


def test_mean_gradient_can_be_differentiated_by_images_and_labels() -> None:
    task = tiny(5)

    def update(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(mean_gradient(task, task.state(), Batch(images, targets), create_graph=True).values())

    images = films(6, 2, 1, 4, 4).double().requires_grad_()
    targets = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(update, (images, targets))


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_cross_entropy_of_labels_is_that_of_certain_probabilities(seed: int) -> None:
    generator = stream(seed, "loss")
    outputs, targets = torch.randn(5, 4, generator=generator), torch.randint(4, (5,), generator=generator)
    losses = cross_entropy(outputs, targets)
    assert losses.shape == (5,)
    assert bool((losses >= 0).all())
    torch.testing.assert_close(losses, cross_entropy(outputs, nn.functional.one_hot(targets, 4).float()))
    torch.testing.assert_close(losses, -outputs.softmax(1)[torch.arange(5), targets].log())


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("lenet", (1, 3, 8), "at least 4 x 4"),
        ("densenet121", (1, 8, 8), "does not run on images of shape (2, 1, 8, 8)"),
    ],
)
def test_images_that_are_too_small_are_refused(name: str, shape: tuple[int, int, int], words: str) -> None:
    with pytest.raises(BadSetting) as caught:
        make(name, shape)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_classes": 1}, "num_classes = 1 is refused"),
        ({"mode": "test"}, "mode = 'test' is refused"),
        ({"trainable": "last"}, "trainable = 'last' is refused"),
        ({"classes": 2}, "Did you mean 'num_classes'?"),
    ],
)
def test_settings_are_checked(config: dict[str, object], words: str) -> None:
    with pytest.raises(BadSetting) as caught:
        make("lenet", (1, 8, 8), **config)
    assert words in str(caught.value)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(BadSetting, match=r"groups = 3 does not divide 64 channels. Allowed: 2, 4, 8, 16, 32, 64"):
        make("resnet18_groupnorm", (1, 32, 32), groups=3)


def test_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    state = make("lenet", (1, 8, 8), seed=1).state()
    torch.save(state, tmp_path / "weights.pt")
    loaded = make("lenet", (1, 8, 8), seed=2, weights=tmp_path / "weights.pt").state()
    assert all(torch.equal(state[key], loaded[key]) for key in state)
    with pytest.raises(WeightsProblem, match=r"1 of another shape: 9\.weight is \(2, 512\) in the file and \(3, 512\)"):
        make("lenet", (1, 8, 8), num_classes=3, weights=tmp_path / "weights.pt")


MODELS = """
import torch
from torch import nn

def build(width=4, classes=2, dropout=0.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.BatchNorm1d(width), nn.Dropout(dropout),
                         nn.Linear(width, classes))

def no_module():
    return [1, 2]

def fails(width=1):
    raise OSError("cannot read /home/someone/patient_0007.dcm")

def no_dense():
    return nn.Sequential(nn.Conv2d(1, 2, 4), nn.Flatten())

def frozen():
    return build().requires_grad_(False)

def three_dimensional():
    return nn.Conv2d(1, 2, 3)

def infinite():
    model = build()
    nn.init.constant_(model[4].bias, float("inf"))
    return model

class Empty(nn.Module):
    def forward(self, images):
        return images

class Pair(nn.Linear):
    def forward(self, images):
        return super().forward(images), images

def tied():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 2))
    model[2].weight = model[1].weight
    return model

def hidden():
    model = build()
    model.register_buffer("scale", torch.ones(1), persistent=False)
    return model

number = 5
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with models, importable from the working directory only."""
    name = f"models_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return name


def own(entry: str, **config: object) -> Task:
    return make("custom", (1, 4, 4), entry=entry, **config)


def test_own_model_is_called_with_its_arguments(models: str) -> None:
    task = own(f"{models}:build", arguments={"width": 6, "classes": 3, "dropout": 0.5}, num_classes=3)
    assert task.state()["1.weight"].shape == (6, 16)
    assert task.forward(task.state(), films(1, 2, 1, 4, 4)).shape == (2, 3)
    assert task.trainable == ("1.weight", "1.bias", "2.weight", "2.bias", "4.weight", "4.bias")
    assert task.state()["2.num_batches_tracked"] == 0
    again = own(f"{models}:build", arguments={"width": 6, "classes": 3, "dropout": 0.5}, num_classes=3)
    assert all(torch.equal(tensor, again.state()[key]) for key, tensor in task.state().items())


def test_own_model_is_found_in_the_search_path(tmp_path: Path) -> None:
    (tmp_path / "package_of_models").mkdir()
    (tmp_path / "package_of_models" / "films.py").write_text(MODELS)
    assert own("package_of_models.films:build", search_path=tmp_path).name == "custom"


@pytest.mark.parametrize(
    ("trainable", "names"),
    [
        ("head", ("4.weight", "4.bias")),
        (["4.*", "1.bias"], ("1.bias", "4.weight", "4.bias")),
        (["*.weight"], ("1.weight", "2.weight", "4.weight")),
    ],
)
def test_own_model_trains_what_the_patterns_match(models: str, trainable: object, names: tuple[str, ...]) -> None:
    task = own(f"{models}:build", trainable=trainable)
    assert task.trainable == names
    assert tuple(mean_gradient(task, task.state(), Batch(films(1, 2, 1, 4, 4), torch.tensor([0, 1])))) == names


@pytest.mark.parametrize(
    ("function", "config", "words"),
    [
        ("biuld", {}, "'biuld' of 'MODELS:biuld' is missing. Did you mean 'build'?"),
        ("number", {}, "is a int, not a function"),
        ("no_module", {}, "'MODELS:no_module' returns a list; allowed is a torch.nn.Module"),
        ("fails", {"arguments": {"width": 2}}, "fails with arguments = ['width']: OSError. Call it in Python"),
        ("build", {"arguments": {"wdith": 2}}, "unexpected keyword argument 'wdith'"),
        ("build", {"num_classes": 3}, "the model returns (2, 2), expected is a tensor of shape (2, 3). Set num_cl"),
        ("three_dimensional", {}, "the model returns (2, 2, 2, 2), expected is a tensor of shape (2, 2): one logit"),
        ("Pair", {"arguments": {"in_features": 4, "out_features": 2}}, "the model returns tuple, expected is a tensor"),
        ("Empty", {"trainable": []}, "the trainable patterns [] match no parameter. The model's parameters: none."),
        ("build", {"trainable": ["4.*", "head.*"]}, "['head.*'] match no parameter. The model's parameters: 1.weight"),
        ("no_dense", {"trainable": "head"}, "finds no dense layer"),
        ("frozen", {}, "finds no parameter that requires a gradient in the model"),
        ("tied", {}, "parameters or buffers of a second name: 2.weight. Untie them."),
        ("hidden", {}, "buffers outside its state dict: scale. Register them with persistent=True."),
        ("infinite", {}, "NaN or infinite on black images"),
    ],
)
def test_own_model_that_cannot_be_used_says_why(
    models: str, tmp_path: Path, function: str, config: dict[str, object], words: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        own(f"{models}:{function}", **config)
    assert words.replace("MODELS", models) in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "patient" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("no_such_module_here:build", "there is no module 'no_such_module_here' for 'no_such_module_here:build'"),
        ("torch.no_such_part:build", "there is no module 'torch.no_such_part'"),
        ("needs_another:build", "imports 'a_missing_package', which is not installed"),
        ("broken:build", "importing the module of 'broken:build' fails: SyntaxError"),
        ("build", "entry = 'build' is refused"),
    ],
)
def test_own_module_that_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, words: str
) -> None:
    (tmp_path / "needs_another.py").write_text("import a_missing_package")
    (tmp_path / "broken.py").write_text("def build(:")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as caught:
        own(entry)
    assert words in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_the_settings_of_own_models_are_in_the_schema() -> None:
    assert set(component("task", "custom").settings.model_fields) == {
        "arguments",
        "entry",
        "mode",
        "num_classes",
        "search_path",
        "segmentation",
        "trainable",
        "weights",
    }


@pytest.mark.parametrize("name", ["lenet", "small_cnn", "resnet18", "vit"])
def test_low_rank_adapters_begin_at_the_network_and_alone_train_beside_the_head(name: str) -> None:
    whole, adapted = make(name), make(name, trainable={"lora": 2})
    images = films(1, 3, 3, 32, 32)
    torch.testing.assert_close(adapted.forward(adapted.state(), images), whole.forward(whole.state(), images))
    state, shapes = adapted.state(), {key: tensor.shape for key, tensor in adapted.state().items()}
    head = make(name, trainable="head").trainable
    adapters = [key for key in adapted.trainable if key not in head]
    assert set(head) < set(adapted.trainable)
    assert {key.rpartition(".")[2] for key in adapters} == {"up", "down"}
    assert all(2 in shapes[key] for key in adapters)
    update = mean_gradient(adapted, state, Batch(images, torch.tensor([0, 1, 0])))
    moved = {**state, **{key: state[key] - update[key] for key in adapters}}
    assert not torch.equal(adapted.forward(moved, images), whole.forward(whole.state(), images))


def test_adapters_are_asked_for_by_their_rank() -> None:
    with pytest.raises(BadSetting, match="trainable"):
        make("lenet", trainable={})
    with pytest.raises(BadSetting, match="trainable"):
        make("lenet", trainable={"lora": 0})


def test_small_cnn_with_batch_statistics_sends_them() -> None:
    task = build("task", {"use": "small_cnn", "norm": "batch"}, (1, 32, 32), 0)
    buffers = copy_buffers(task, task.state())
    task.forward({**task.state(), **buffers}, films(2, 4, 1, 32, 32))
    assert any(bool(change.any()) for change in buffer_change(task.state(), buffers).values())
