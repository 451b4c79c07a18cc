"""Who may speak to a node: `AET@address`."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from segpipe.errors import ConfigError
from segpipe.pacs.address import check_title

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Allowed:
    """Attributes:
    pairs: title and network of each; none: whoever is on this machine.
    """

    pairs: tuple[tuple[str, _Network], ...] = ()

    def holds(self, title: str, address: str) -> bool:
        """Whether a node of this title and IP address may speak."""
        return self._holds(title, address)

    def reaches(self, address: str) -> bool:
        """Whether a node of any title at this IP address may speak."""
        return self._holds(None, address)

    def _holds(self, title: str | None, address: str) -> bool:
        where = ipaddress.ip_address(address.partition("%")[0])
        where = getattr(where, "ipv4_mapped", None) or where
        if not self.pairs:
            return where.is_loopback
        return any(title in (known, None) and where in network for known, network in self.pairs)

    @property
    def only_here(self) -> bool:
        """Whether nobody outside this machine may."""
        return all(network.is_loopback for _, network in self.pairs)


def parse_allowed(words: Sequence[str]) -> Allowed:
    """`CT1@10.0.0.7`, `CT1@10.0.0.0/24`, `CT1@scanner.hospital`: names are looked up now.

    Raises:
        ConfigError: another form, or a name that is not known.
    """
    return Allowed(tuple((title, network) for word in words for title, network in _pairs(word)))


def _pairs(word: str) -> list[tuple[str, _Network]]:
    title, at, where = word.rpartition("@")
    if not at or not where:
        raise ConfigError(f"--allow {word}: must be AET@ADDRESS, such as CT1@10.0.0.7 or CT1@10.0.0.0/24")
    check_title(title, "--allow")
    try:
        return [(title, ipaddress.ip_network(where, strict=False))]
    except ValueError:
        if "/" in where:
            raise ConfigError(f"--allow {word}: {where} is no network; must be such as 10.0.0.0/24") from None
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(where, None)}
    except OSError as error:
        raise ConfigError(f"--allow {word}: the name {where} is not known ({error}); give its IP address") from error
    return [(title, ipaddress.ip_network(address.partition("%")[0])) for address in sorted(found)]
