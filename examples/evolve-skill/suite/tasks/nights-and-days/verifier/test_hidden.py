import program


def test_a_weekend():
    assert program.rental_days("2024-06-07", "2024-06-09") == 3


def test_leap_day():
    assert program.rental_days("2024-02-28", "2024-03-01") == 3


def test_price():
    assert program.price("2024-06-01", "2024-06-07", 40) == 280


def test_over_the_year():
    assert program.rental_days("2023-12-31", "2024-01-01") == 2
