"""Errors of the inference package.

InferenceError
├── BundleError         a model bundle is missing, damaged, incomplete or not of the kind asked for
│   └── LicenceError    the bundle's licence or card does not allow the use mode
├── CatalogueError      a catalogue of findings cannot be used
├── InputError          a text given to a model cannot be used: empty, too long, candidates that contradict each other
├── LabelsError         a table of labelled films cannot be used
├── HeadError           a calibration or probe cannot be fitted or used
└── DeviceError         the device failed: the same reading may work later
    ├── DeviceFull          it is out of memory: a smaller batch may work now
    └── DeviceLost          it answers nothing any more, whatever it is asked: only a new process can use it again
"""


class InferenceError(Exception):
    """Base of all errors raised by ``inference``."""


class BundleError(InferenceError):
    """A model bundle cannot be used. The message names the bundle, what is wrong and how to get it right."""


class LicenceError(BundleError):
    """The bundle may not be used in this mode. The message says what to record in the configuration."""


class CatalogueError(InferenceError):
    """A catalogue file cannot be used. The message names the file, the entry and what is allowed."""


class LabelsError(InferenceError):
    """A table of labels cannot be used. The message names the file, the line and the column, and never a patient."""


class HeadError(InferenceError):
    """A calibration or probe cannot be fitted, or belongs to another model or other prompts. The message says what to do."""


class InputError(InferenceError):
    """A question, text or list of candidates cannot be used. The message names the limit, never the text."""


class DeviceError(InferenceError):
    """The device failed; retryable."""


class DeviceFull(DeviceError):  # noqa: N818
    """The device is out of memory; the same work in smaller parts may be done at once."""


class DeviceLost(DeviceError):  # noqa: N818
    """The device is lost to this process (CUDA errors stay, whatever is asked next); the process must be replaced."""
