"""A SuperLink and SuperNodes as processes on this machine, over TLS with certificates made for the test."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CONNECTION = "hospitals"


def program(name):
    return str(Path(sys.executable).with_name(name))


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def certificates(folder):
    """An authority and a server's certificate for 127.0.0.1, as PEM files."""
    ca_key, ca = _certificate("test authority", None, None, x509.BasicConstraints(ca=True, path_length=None))
    key, own = _certificate("127.0.0.1", ca_key, ca, x509.BasicConstraints(ca=False, path_length=None))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files = {"ca.crt": _pem(ca), "server.crt": _pem(own), "server.key": private}
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _certificate(name, issuer_key, issuer, constraints):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signer = issuer_key or key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(constraints, critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return key, builder.sign(signer, hashes.SHA256())


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


class Network:
    """The running processes; `environment` is what `flwr` and `gradiograph` need to reach the SuperLink."""

    def __init__(self, folder):
        self._folder = folder
        certificates(folder)
        self._port, *self._node_ports = free_ports(16)
        home = folder / "flower"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n[superlink.{CONNECTION}]\n'
            f'address = "127.0.0.1:{self._port}"\nroot-certificates = "{folder / "ca.crt"}"\n'
        )
        quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, **quiet, "FLWR_HOME": str(home), "PATH": path}
        self._processes = []

    def start_superlink(self):
        keys = ["--ssl-certfile", "server.crt", "--ssl-keyfile", "server.key", "--ssl-ca-certfile", "ca.crt"]
        self._start("flower-superlink", *keys, "--port", str(self._port), "--disable-runtime-dependency-installation")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.2)
        raise TimeoutError

    def start_node(self, place):
        address = ["--superlink", f"127.0.0.1:{self._port}", "--port", str(self._node_ports.pop())]
        config = ["--node-config", f"partition-id={place}"]
        return self._start("flower-supernode", "--root-certificates", "ca.crt", *address, *config)

    def kill(self, process):
        """End the process and what it started, at once."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self):
        for process in self._processes:
            if process.poll() is None:
                self.kill(process)

    def _start(self, name, *arguments):
        with (self._folder / f"{name}-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [program(name), *arguments],
                cwd=self._folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process


@contextmanager
def network(folder, nodes):
    """A SuperLink with so many SuperNodes, and the nodes' processes."""
    running = Network(folder)
    try:
        running.start_superlink()
        yield running, [running.start_node(place) for place in range(nodes)]
    finally:
        running.stop()
