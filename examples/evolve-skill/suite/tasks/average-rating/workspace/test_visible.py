import program


def test_half():
    assert program.average([4, 5]) == 4.5


def test_none():
    assert program.average([]) == 0.0
