"""Errors of the inference package.

InferenceError
├── BundleError         a model bundle is missing, damaged, incomplete or not of the kind asked for
│   └── LicenceError    the bundle's licence or card does not allow the use mode
├── CatalogueError      a catalogue of findings cannot be used
└── DeviceError         the device failed (out of memory, lost): the same reading may work later
"""


class InferenceError(Exception):
    """Base of all errors raised by ``inference``."""


class BundleError(InferenceError):
    """A model bundle cannot be used. The message names the bundle, what is wrong and how to get it right."""


class LicenceError(BundleError):
    """The bundle may not be used in this mode. The message says what to record in the configuration."""


class CatalogueError(InferenceError):
    """A catalogue file cannot be used. The message names the file, the entry and what is allowed."""


class DeviceError(InferenceError):
    """The device failed; retryable."""
