import program


def test_thirds():
    assert abs(program.average([5, 4, 4]) - 13 / 3) < 1e-12


def test_one():
    assert program.average([3]) == 3


def test_low():
    assert program.average([1, 1, 1, 2]) == 1.25
