"""Files of weights: read safely, fitted by name."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from gradiograph.core.errors import WeightsProblem
from gradiograph.tasks import check_state, load_into, load_state


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def refused(path: Path) -> str:
    with pytest.raises(WeightsProblem) as caught:
        load_state(path)
    message = str(caught.value)
    assert str(path) not in message
    assert path.name not in message
    assert caught.value.__cause__ is None
    return message


@pytest.mark.parametrize("wrap", [dict, OrderedDict, lambda state: {"state_dict": state, "epoch": 3}])
def test_state_dicts_come_back(tmp_path: Path, wrap: object) -> None:
    assert callable(wrap)
    state = nn.BatchNorm1d(3).state_dict()
    torch.save(wrap(state), tmp_path / "w.pt")
    loaded = load_state(tmp_path / "w.pt")
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_parameters_come_back_detached(tmp_path: Path) -> None:
    torch.save({"weight": nn.Parameter(torch.ones(2))}, tmp_path / "w.pt")
    assert not load_state(tmp_path / "w.pt")["weight"].requires_grad


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_code_in_a_file_never_runs(tmp_path: Path, plain: bool, legacy: bool) -> None:
    marker = tmp_path / "was-here"
    harmful = {"weight": torch.ones(1), "more": Attack(marker)}
    if plain:
        (tmp_path / "w.pt").write_bytes(pickle.dumps(harmful, protocol=2 if legacy else 4))
    else:
        torch.save(harmful, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    message = refused(tmp_path / "w.pt")
    assert not marker.exists()
    assert "could run code" in message
    assert "torch.save(model.state_dict(), FILE)" in message


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    assert "more than tensors" in refused(tmp_path / "w.pt")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "missing-weights.pt")
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really a zip", b"hello, these are no weights", b"\x80\x02."])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    assert "damaged" in refused(tmp_path / "w.pt")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1000)}, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(1)], "holds a list, not a state dict"),
        (torch.ones(1), "holds a Tensor, not a state dict"),
        ({}, "holds no tensor"),
        ({"state_dict": {}}, "holds no tensor"),
        ({"weight": torch.ones(1), "epoch": 3}, "the entry 'epoch' is a int"),
        ({1: torch.ones(1)}, "the entry 1 is a Tensor"),
        ({"model": {"weight": torch.ones(1)}}, "the entry 'model' is a dict"),
        ({"weight": torch.eye(2).to_sparse()}, "allowed are dense tensors"),
        ({"weight": torch.tensor([1.0, float("nan")])}, "NaN or infinity in 'weight'"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert words in refused(tmp_path / "w.pt")


def test_weights_that_fit_are_loaded() -> None:
    model = nn.Linear(2, 3)
    state = {"weight": torch.full((3, 2), 2.0), "bias": torch.zeros(3)}
    load_into(model, state)
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


def test_weights_that_do_not_fit_name_every_kind_of_problem_once() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {"0.weight": torch.ones(2, 5), "0.bias": torch.ones(2), "head.bias": torch.ones(2)}
    with pytest.raises(WeightsProblem) as caught:
        check_state(model, state)
    assert str(caught.value) == (
        "The weights do not fit the model. 4 missing from the file: 1.weight, 1.bias, 2.weight and 1 more. "
        "1 unknown to the model: head.bias. "
        "1 of another shape: 0.weight is (2, 5) in the file and (2, 2) in the model. "
        "Check that the task's network, num_classes and image size are those that the weights were trained with."
    )
    with pytest.raises(WeightsProblem, match="do not fit"):
        load_into(model, state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
