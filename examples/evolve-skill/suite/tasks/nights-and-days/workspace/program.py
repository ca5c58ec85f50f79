"""Rentals."""

from datetime import date


def rental_days(first, last):
    """How many days a car is rented; the first and the last day both count. Dates are YYYY-MM-DD."""
    return (date.fromisoformat(last) - date.fromisoformat(first)).days


def price(first, last, per_day):
    """The price of a rental."""
    return rental_days(first, last) * per_day
