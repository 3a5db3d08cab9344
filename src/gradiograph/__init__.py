"""Gradiograph: a privacy audit for federated learning on medical images."""

__version__ = "0.1.0"
