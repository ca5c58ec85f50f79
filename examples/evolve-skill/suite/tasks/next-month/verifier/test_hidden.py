import program


def test_november():
    assert program.next_month(11) == 12


def test_a_year():
    assert program.months_from(10, 5) == [10, 11, 12, 1, 2]


def test_two_years():
    assert program.months_from(1, 24) == [*range(1, 13), *range(1, 13)]
