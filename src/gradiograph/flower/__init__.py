"""Flower: our protections and captures in a Flower app, and our rounds on its simulation or its SuperLink.

Needs the extra `flower`. Everything that imports flwr is in this room.
"""

try:
    import flwr as _flwr  # noqa: F401 - only to see whether it is there
except ModuleNotFoundError as error:
    from gradiograph.core.errors import MissingExtra

    msg = "Flower is not installed. Install it with Gradiograph: pip install 'gradiograph[flower]'."
    raise MissingExtra(msg) from error

from gradiograph.flower.capture import capture
from gradiograph.flower.decoding import Decoding
from gradiograph.flower.protection import protect
from gradiograph.flower.recording import Recording

__all__ = ["Decoding", "Recording", "capture", "protect"]
