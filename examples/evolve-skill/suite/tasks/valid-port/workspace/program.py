"""Network settings."""


def is_user_port(port):
    """Whether a port may be used without rights: 1024 to 65535."""
    return port >= 1024 or port <= 65535
