import program


def test_below():
    assert program.clamped(-5, 0, 10) == 0


def test_edges():
    assert program.clamped(0, 0, 10) == 0
    assert program.clamped(10, 0, 10) == 10


def test_all():
    assert [program.clamped(x, 2, 4) for x in range(7)] == [2, 2, 2, 3, 4, 4, 4]
