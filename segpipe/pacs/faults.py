"""What can go wrong on a network, by what is to be done next."""

from __future__ import annotations

from segpipe.errors import DataError


class LaterError(DataError):
    """It may go well later: nobody answers, or the server is busy.

    Attributes:
        unsure: it was sent, and nobody has said whether it came.
        wait: seconds that the server asks for; 0: none.
        alone: it may be for this one object alone, and others may go well now.
    """

    def __init__(self, text: str, unsure: bool = False, wait: float = 0.0, alone: bool = False) -> None:
        super().__init__(text)
        self.unsure = unsure
        self.wait = wait
        self.alone = alone


class DeniedError(DataError):
    """The other side will have nothing from us as we are: unknown to it, not trusted, not what the address says."""


class RefusedError(DataError):
    """The other side does not take, or does not have, this one object."""
