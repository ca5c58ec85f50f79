"""Tables of a league."""


def table(players):
    """Names by points, most first; players with equal points in alphabetical order. Players are (name, points)."""
    ordered = sorted(players, key=lambda p: (p[1], p[0]), reverse=True)
    return [name for name, _ in ordered]
