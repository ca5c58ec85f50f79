"""Temperatures."""


def to_fahrenheit(celsius):
    """Degrees Celsius as degrees Fahrenheit."""
    return celsius * 9 / 5 - 32


def to_celsius(fahrenheit):
    """Degrees Fahrenheit as degrees Celsius."""
    return (fahrenheit - 32) * 5 / 9
