import program


def test_centuries():
    assert not program.is_leap(1900)
    assert program.is_leap(2000)
    assert not program.is_leap(2100)


def test_days():
    assert program.days(2024) == 366
    assert program.days(2100) == 365


def test_four_hundred_years():
    assert sum(program.is_leap(y) for y in range(1600, 2000)) == 97
