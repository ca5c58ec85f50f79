import program


def test_first_is_longer():
    assert program.added([1, 2, 3], [1]) == [2, 2, 3]


def test_nothing():
    assert program.added([], [5, 6]) == [5, 6]
    assert program.added([], []) == []


def test_negative():
    assert program.added([1, -1], [-1, 1, 4]) == [0, 0, 4]
