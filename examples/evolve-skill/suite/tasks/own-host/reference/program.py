"""Hosts that are trusted."""

DOMAIN = "example.org"


def is_own(host):
    """Whether a host is the domain itself or below it, in any case."""
    host = host.lower()
    return host == DOMAIN or host.endswith("." + DOMAIN)
