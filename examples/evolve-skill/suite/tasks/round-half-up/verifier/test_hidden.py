import program


def test_halves():
    assert [program.rounded(x + 0.5) for x in range(6)] == [1, 2, 3, 4, 5, 6]


def test_negative_half():
    assert program.rounded(-0.5) == 0
    assert program.rounded(-2.5) == -2


def test_plain():
    assert program.rounded(7.6) == 8
    assert program.rounded(-7.6) == -8
    assert program.rounded(4) == 4
