import program


def test_middle():
    assert program.position([1, 3, 5], 3) == 1


def test_single():
    assert program.position([4], 4) == 0
