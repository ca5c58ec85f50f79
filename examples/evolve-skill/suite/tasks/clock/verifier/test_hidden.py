import program


def test_midnight():
    assert program.later(23, 59, 1) == (0, 0)


def test_noon():
    assert program.later(11, 30, 60) == (12, 30)


def test_backwards():
    assert program.later(0, 10, -20) == (23, 50)


def test_a_day():
    assert program.later(17, 5, 24 * 60) == (17, 5)
