import program


def test_inside():
    assert program.clamped(5, 0, 10) == 5


def test_above():
    assert program.clamped(50, 0, 10) == 10
