"""Shipping costs in cents."""

FREE_FROM = 5_000


def shipping(order_cents, express=False):
    """Free from 5,000 cents on, else 490; express costs 900 more in any case."""
    cost = 0 if order_cents >= FREE_FROM else 490
    if express:
        cost += 900
    return cost
