"""Licences of a package: of its code, its weights and its samples, each named by its SPDX identifier, each with a text."""

from __future__ import annotations

import re

from segpipe.errors import ModelError

KNOWN = (
    *("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "MPL-2.0", "GPL-2.0-only", "GPL-3.0-only", "LGPL-3.0-only", "AGPL-3.0-only"),
    *("GPL-2.0-or-later", "GPL-3.0-or-later", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-ND-4.0"),
    *("CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0", "ODbL-1.0", "PDDL-1.0", "Unlicense"),
    *("ISC", "EUPL-1.2", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0"),
)
"""SPDX identifiers that go without a text of the user's own."""
_OWN = re.compile(r"LicenseRef-[A-Za-z0-9.-]{1,80}", re.ASCII)


def is_own(identifier: str) -> bool:
    """Whether it names a licence of the user's own, `LicenseRef-NAME` as SPDX has it."""
    return _OWN.fullmatch(identifier) is not None


def check_licence(what: str, identifier: str) -> None:
    """Refuse what is no licence.

    Args:
        what: code, weights or samples.

    Raises:
        ModelError: neither a known SPDX identifier nor `LicenseRef-NAME`.
    """
    if identifier not in KNOWN and not is_own(identifier):
        told = "an SPDX identifier such as Apache-2.0 or CC-BY-4.0, or LicenseRef-NAME with a text of your own"
        raise ModelError(f"licences.{what} is {identifier[:60]!a}; must be {told}")


def licence_text(what: str, identifier: str, holders: str) -> str:
    """The text that goes into a package where the user gives none: who grants what, and where the licence stands in full.

    Samples may be somebody else's, as those of a public data set are: of them it names nobody.

    Args:
        holders: authors of the model.
    """
    granted = f"licensed under {identifier} by those who made them: see the source of the data on the card"
    told = granted if what == "samples" else f"licensed under {identifier} by {holders}"
    return (
        f"SPDX-License-Identifier: {identifier}\n\n"
        f"The {what} of this package {'is' if what == 'code' else 'are'} {told}.\n"
        f"The licence in full: https://spdx.org/licenses/{identifier}.html\n"
    )
