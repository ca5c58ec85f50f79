import program


def test_one_day():
    assert program.rental_days("2024-06-01", "2024-06-01") == 1
