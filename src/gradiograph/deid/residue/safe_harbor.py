"""The identifiers that HIPAA's Safe Harbor names, 45 CFR 164.514(b)(2)(i), letters A to R."""

from __future__ import annotations

from types import MappingProxyType

LETTERS = MappingProxyType(
    {
        "A": "names",
        "B": "places smaller than a state",
        "C": "dates (all but the year) and ages over 89",
        "D": "telephone numbers",
        "E": "fax numbers",
        "F": "e-mail addresses",
        "G": "social security numbers",
        "H": "medical record numbers",
        "I": "health plan numbers",
        "J": "account numbers",
        "K": "certificate and licence numbers",
        "L": "vehicles and plates",
        "M": "devices and serial numbers",
        "N": "web addresses",
        "O": "network addresses",
        "P": "biometric identifiers",
        "Q": "faces and comparable images",
        "R": "any other unique number, characteristic or code",
    }
)
"""What each letter stands for, in short."""
