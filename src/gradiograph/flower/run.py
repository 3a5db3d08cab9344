"""A Flower app of this package, run on Flower's simulation or on a SuperLink."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import tomli_w

from gradiograph.core.errors import TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SIMULATION = "simulation"
_START = 180.0
"""Seconds that a SuperLink may take to answer."""


def run_app(
    components: Mapping[str, str],
    settings: Mapping[str, str],
    *,
    nodes: int,
    superlink: str | None,
    log: Path,
    waiting: Callable[[], None],
) -> None:
    """Run an app and wait for its end.

    Args:
        components: "serverapp" and "clientapp", as "module:object"; installed wherever they run.
        settings: What both read as their run's settings.
        nodes: SuperNodes of the simulation.
        superlink: A connection in Flower's own configuration. None starts a SuperLink for this run, on this machine
            only, that simulates the nodes.
        log: Where Flower's own messages go; for its owner only.
        waiting: Called while the app runs.

    Raises:
        TrainingFailed: Flower does not start the run.
    """
    with TemporaryDirectory(prefix="gradiograph-flower-") as folder:
        app = _write_app(Path(folder) / "app", components, settings)
        environment = _environment()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            command = [_program("flwr"), "run", str(app), superlink or _SIMULATION, "--stream"]
            if superlink is None:
                environment["FLWR_HOME"] = str(Path(folder) / "home")
                command += ["--federation-config", f"num-supernodes={nodes} client-resources-num-cpus=1"]
            started = log.stat().st_size
            with nullcontext() if superlink else _simulating(environment, output.fileno()):
                try:
                    code = _wait(command, environment, output.fileno(), waiting)
                except BaseException:
                    if superlink:  # the run would go on there without us
                        _stop(superlink, log.read_bytes()[started:], environment, output.fileno())
                    raise
    if code:
        msg = f"Flower did not start the run; what it says is in {log.name} in the run's folder. " + (
            f"Check the connection '{superlink}' in Flower's configuration." if superlink else ""
        )
        raise TrainingFailed(msg.strip())


def _write_app(folder: Path, components: Mapping[str, str], settings: Mapping[str, str]) -> Path:
    folder.mkdir()
    flower = {"publisher": "gradiograph", "components": dict(components), "config": dict(settings)}
    about = {"name": "gradiograph-audit", "version": "1.0.0", "description": "Trains an audit.", "dependencies": []}
    content = {"project": {**about, "license": "Apache-2.0"}, "tool": {"flwr": {"app": flower}}}
    (folder / "pyproject.toml").write_text(tomli_w.dumps(content), encoding="utf-8")
    return folder


def _environment() -> dict[str, str]:
    """This process's environment; nothing is told to the makers of Flower and Ray, and nobody asked for updates.

    A simulation gets a Ray of its own: left alone, it would join any that runs on this machine.
    """
    own = str(Path(sys.executable).parent)
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return {"RAY_ADDRESS": "local", **os.environ, "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', '')}", **quiet}


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@contextmanager
def _simulating(environment: Mapping[str, str], output: int) -> Iterator[None]:
    """A SuperLink on a free port of this machine that simulates its nodes, while the block runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(environment["FLWR_HOME"])
    home.mkdir()
    connection = {"address": f"127.0.0.1:{port}", "insecure": True}
    content = {"superlink": {"default": _SIMULATION, _SIMULATION: connection}}
    (home / "config.toml").write_text(tomli_w.dumps(content), encoding="utf-8")
    command = [_program("flower-superlink"), "--insecure", "--simulation", "--port", str(port)]
    process = _start([*command, "--disable-runtime-dependency-installation"], environment, output)
    try:
        _await_health(process, port)
        yield
    finally:
        _end(process)


def _await_health(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = monotonic() + _START
    while process.poll() is None and monotonic() < deadline:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (URLError, OSError):
            sleep(0.2)
    msg = f"Flower's SuperLink did not start within {_START:.0f} s; what it says is in the log in the run's folder."
    raise TrainingFailed(msg)


def _wait(command: list[str], environment: Mapping[str, str], output: int, waiting: Callable[[], None]) -> int:
    process = _start(command, environment, output)
    try:
        while process.poll() is None:
            waiting()
            sleep(0.5)
    finally:
        _end(process)
    return process.returncode


def _stop(superlink: str, told: bytes, environment: Mapping[str, str], output: int) -> None:
    """Stop the run whose start Flower told of, if it did."""
    run = re.search(rb"Successfully started run (\d+)", told)
    if run is not None:
        command = [_program("flwr"), "stop", run[1].decode(), superlink]
        _wait(command, environment, output, lambda: None)


def _start(command: list[str], environment: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that it can be ended with all that it started."""
    return subprocess.Popen(  # noqa: S603 - programs of this environment
        command, env=dict(environment), stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process, if it has not ended, and all that it started, of which some have sessions of their own."""
    if process.poll() is not None:
        return
    offspring = _offspring(process.pid)
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in offspring:
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def _offspring(ancestor: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)  # noqa: S607
    parents = {int(pid): int(parent) for pid, parent in map(str.split, listing.stdout.splitlines())}
    found: list[int] = []
    fresh = {ancestor}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh}
        found += fresh
    return found
