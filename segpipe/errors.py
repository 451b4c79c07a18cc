"""What can go wrong, as exceptions that carry the program's exit code.

A message says **which file: what is, what must be, what to do**. The library raises; only `cli` prints and exits.
Exit codes: 0 all is well, 1 a bug in segpipe, 2 configuration, 3 data, 4 geometry, 5 model, 130 stopped by the user.
"""


class SegpipeError(Exception):
    """Any error that a user can cure; its text is shown to the user as it is, on one line."""

    exit_code = 1


class ConfigError(SegpipeError):
    """A setting or an argument is wrong: unknown key, wrong type, out of range, unwritable place."""

    exit_code = 2


class DataError(SegpipeError):
    """A file or a data set cannot be used: missing, unreadable, empty, contradictory."""

    exit_code = 3


class GeometryError(SegpipeError):
    """Grids that must agree do not, or an affine describes no usable grid."""

    exit_code = 4


class ModelError(SegpipeError):
    """A model file or a network cannot be used: damaged, another version, does not fit its plan."""

    exit_code = 5
