"""Every registered component keeps the contract of its kind: the table below says with which settings it is built."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradiograph import testing
from gradiograph.core import registry
from gradiograph.core.defence import Chain
from gradiograph.metrics import Judge, lpips_available, pack_judge
from gradiograph.metrics.judge import JudgeNetwork
from gradiograph.testing import specimens
from medical_specimens import class_folder, decathlon_folder

testing.load_rooms()
ALL = [component for kind in registry.KINDS for component in registry.components(kind)]
LPIPS_WEIGHTS = Path(__file__).parents[2] / "shared" / "weights" / "lpips"

# What each component is built with; its defaults where it has no line. A component that cannot be built from its
# defaults and has no line here fails its test: nobody is forgotten.
SETTINGS = {
    ("attack", "spear"): [{"samples": 512}],
    ("task", "vit"): [{"patch_size": 4, "width": 16, "depth": 1}],
    ("protocol", "fedavg"): [
        {"local_steps": 2, "learning_rate": 0.1},
        {"local_epochs": 1, "learning_rate": 0.1, "batch_size": 2, "momentum": 0.9, "weight_decay": 0.01},
        {"local_steps": 2, "learning_rate": 0.01, "optimiser": "adamw", "augmentation": ["flip", "shift", "rotate"]},
    ],
    ("protocol", "fedprox"): [
        {"mu": 0.1, "local_steps": 2, "learning_rate": 0.1},
        {"mu": 1.0, "local_epochs": 2, "learning_rate": 0.1, "batch_size": 2, "momentum": 0.9},
    ],
    ("defence", "clip"): [{"norm": 0.5}],
    ("defence", "dp_fedavg"): [{"clip_norm": 0.5, "noise_multiplier": 1.0}],
    ("defence", "distributed_noise"): [{"clip_norm": 0.5, "noise_multiplier": 0.1, "clients": 4}],
    ("defence", "local_dp"): [{"clip_norm": 0.5, "noise_multiplier": 0.1}],
    ("defence", "dp_sgd"): [
        {"clip_norm": 0.5, "noise_multiplier": 0.1},
        {"clip_norm": 0.5, "noise_multiplier": 0.1, "clipping": "per_layer"},
        {"clip_norm": 0.5, "noise_multiplier": 0.0, "clipping": "automatic", "unit": "patient"},
    ],
    ("defence", "gaussian_noise"): [{"std": 0.05}, {"snr": 1.0}, {"noise_multiplier": 0.1, "clip_norm": 0.5}],
    ("defence", "laplace_noise"): [{"scale": 0.05}, {"snr": 1.0}],
    ("defence", "qsgd"): [{"levels": 4}, {"levels": 16, "bucket": 64}, {"levels": 4, "norm": "max"}],
    ("defence", "random_k"): [{"sparsity": 0.5}, {"sparsity": 0.5, "rescale": False}],
    ("defence", "sign_sgd"): [{}, {"scale": "mean_abs"}],
    ("defence", "top_k"): [{"sparsity": 0.5}, {"sparsity": 0.9, "scope": "update"}],
    ("defence", "uniform_quantisation"): [{"bits": 4}],
    ("server", "sgd"): [{}, {"learning_rate": 0.5, "momentum": 0.9}],
    ("metric", "identification"): [{"distance": name, "min_gallery": 4} for name in ("pixels", "lpips", "judge")],
}
QUICK = {"attack": {"steps": 2}, "data": {"image_size": 32, "patients": 12}}
SLOW = {("task", "densenet121")}
# Attacks that solve refuse the specimen, or its two films; they are held to the contract on what they are made for.
ON_LENET = {"mask_differencing", "spear", "unmixing"}
OF_ONE_FILM = {"r_gap", "april"}
ON_VIT = {"april"}
# These read files, and have tests of their own below.
FILES = ("folder", "dicom", "nifti", "decathlon", "medmnist", "monai")
ON_DISK = {("data", name) for name in FILES} | {("task", "custom"), ("attack", "restored"), ("attack", "conv_unmixing")}


def settings_of(component):
    """The table's entries, else the defaults; quick ones for the kinds that have them."""
    key = (component.kind, component.name)
    known = component.settings.model_fields
    quick = {name: value for name, value in QUICK.get(component.kind, {}).items() if name in known}
    return [{**quick, **entry} for entry in SETTINGS.get(key, [{}])]


def of_kind(kind):
    return [
        pytest.param(
            component,
            settings,
            id="-".join([component.name, *(f"{name}={value}" for name, value in settings.items())]),
            marks=[pytest.mark.slow] if (kind, component.name) in SLOW else [],
        )
        for component in registry.components(kind)
        if (kind, component.name) not in ON_DISK
        for settings in settings_of(component)
    ]


@pytest.mark.parametrize("component", ALL, ids=lambda component: f"{component.kind}-{component.name}")
def test_component(component):
    testing.check_component(component)


@pytest.mark.parametrize(("component", "settings"), of_kind("defence"))
def test_defence(component, settings):
    testing.check_defence(lambda: component.build(**component.check(settings)))


def model_for(attack):
    if attack in ON_VIT:
        return registry.component("task", "vit").build((1, 16, 16), 7, patch_size=8, width=16, depth=1)
    return registry.component("task", "lenet").build((1, 16, 16), 7) if attack in ON_LENET else None


@pytest.mark.parametrize(("component", "settings"), of_kind("attack"))
def test_attack(component, settings):
    testing.check_attack(
        lambda: component.build(**component.check(settings)),
        task=model_for(component.name),
        batch_size=1 if component.name in OF_ONE_FILM else 2,
    )


@pytest.mark.parametrize(("component", "settings"), of_kind("metric"))
def test_metric(component, settings, tmp_path):
    folders = {"lpips": LPIPS_WEIGHTS, "judge": tmp_path / "judge.npz"}
    judge = Judge(network=JudgeNetwork(2), classes=("NORMAL", "ILL"), card={})
    folders["judge"].write_bytes(pack_judge(judge, ["somebody"], b"key"))
    if component.name == "lpips" or settings.get("distance") == "lpips":
        reason = lpips_available("alex", folders)
        if reason:
            pytest.skip(reason)
    testing.check_metric(lambda: component.build(**component.check(settings)), network_folders=folders)


@pytest.mark.parametrize(("component", "settings"), of_kind("protocol"))
def test_protocol(component, settings):
    testing.check_protocol(lambda: component.build(**component.check(settings)))


@pytest.mark.parametrize(("component", "settings"), of_kind("server"))
def test_server(component, settings):
    testing.check_server(lambda: component.build(**component.check(settings)))


@pytest.mark.parametrize(("component", "settings"), of_kind("task"))
def test_task(component, settings):
    testing.check_task(lambda: component.build((3, 32, 32), 7, **component.check(settings)))


@pytest.mark.parametrize(("component", "settings"), of_kind("data"))
def test_data(component, settings):
    testing.check_data(lambda: component.build(**component.check(settings)))


def test_folder(tmp_path):
    for name in ("normal", "opacity"):
        (tmp_path / name).mkdir()
        for patient in range(6):
            film = specimens.films(1, (1, 40, 40), name, patient)[0, 0]
            pixels = (film.numpy() * 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{name}-{patient}.png")
    component = registry.component("data", "folder")
    settings = {"path": tmp_path, "image_size": 32, "patient_pattern": "(.*)"}
    testing.check_data(lambda: component.build(**component.check(settings)))


@pytest.mark.parametrize(
    ("name", "make", "settings"),
    [
        ("dicom", class_folder, {"image_size": 16, "site": "scanner"}),
        ("dicom", class_folder, {"image_size": 16, "unit": "study", "channels": 3}),
        ("decathlon", decathlon_folder, {"image_size": 8, "label": "mask"}),
        ("decathlon", decathlon_folder, {"unit": "patch", "size": (4, 8, 8), "spacing": (2, 2, 1)}),
        (
            "nifti",
            lambda root: decathlon_folder(root) / "imagesTr",
            {"unit": "volume", "size": (8, 8, 8)},
        ),
    ],
)
def test_medical_data(tmp_path, name, make, settings):
    component = registry.component("data", name)
    own = {"patient_pattern": "(.*)"} if name in ("nifti", "monai") else {}
    path = make(tmp_path)
    testing.check_data(lambda: component.build(**component.check({"path": path, **own, **settings})))


def test_custom_task(tmp_path):
    (tmp_path / "own_model_of_the_contract_test.py").write_text(
        "from torch import nn\n\n\n"
        "def build(width):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.Tanh(), nn.Flatten(), nn.Linear(64 * width, 2))\n"
    )
    component = registry.component("task", "custom")
    settings = {"entry": "own_model_of_the_contract_test:build", "arguments": {"width": 4}, "search_path": tmp_path}
    testing.check_task(lambda: component.build((3, 32, 32), 7, **component.check(settings)))


@pytest.mark.parametrize(("component", "settings"), of_kind("defence"))
def test_attack_under_defence(component, settings):
    """The general attack with the channel's own likelihood runs under every defence, alone and after another."""
    attack = registry.component("attack", "gradient_matching")
    defence = component.build(**component.check(settings))
    clip = registry.component("defence", "clip").build(norm=0.5)
    testing.check_attack(
        lambda: attack.build(**attack.check({"likelihood": "channel", "steps": 1})),
        defence=Chain(stages=(clip, defence)),
    )


def test_every_kind_has_a_check():
    assert all(callable(getattr(testing, f"check_{kind}")) for kind in registry.KINDS)
