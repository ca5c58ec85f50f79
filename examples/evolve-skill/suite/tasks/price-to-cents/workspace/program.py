"""Money."""


def to_cents(price):
    """A price such as 19.99 in cents, to the nearest cent."""
    return int(price * 100)


def total_cents(prices):
    """The sum of prices in cents."""
    return sum(to_cents(p) for p in prices)
