"""Calendar."""


def is_leap(year):
    """Whether a year of the Gregorian calendar has a 29 February."""
    return year % 4 == 0 and year % 100 != 0 and year % 400 == 0


def days(year):
    """Days of a year."""
    return 366 if is_leap(year) else 365
