import program


def test_morning():
    assert program.later(9, 50, 20) == (10, 10)


def test_afternoon():
    assert program.later(13, 0, 30) == (13, 30)
