"""The rooms form a star, and what must run without torch does."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITHOUT_TORCH = (
    "gradiograph",
    "gradiograph.core.errors",
    "gradiograph.core.predictions",
    "gradiograph.core.records",
    "gradiograph.core.registry",
    "gradiograph.core.rounds",
    "gradiograph.core.seeds",
    "gradiograph.core.threat",
    "gradiograph.log",
    "gradiograph.report",
    "gradiograph.utility",
)
BLOCKED_IMPORT = """
import importlib
import sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ImportError("torch is absent")


sys.meta_path.insert(0, NoTorch())
importlib.import_module(sys.argv[1])
assert "torch" not in sys.modules
"""


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_rooms_import_as_a_star():
    found = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_imports_without_torch(module):
    found = run(sys.executable, "-c", BLOCKED_IMPORT, module)
    assert found.returncode == 0, found.stderr


def test_the_block_works():
    found = run(sys.executable, "-c", BLOCKED_IMPORT, "gradiograph.core.tensors")
    assert "torch is absent" in found.stderr
