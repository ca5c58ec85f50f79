import program


def test_same_length():
    assert program.added([1, 2], [3, 4]) == [4, 6]


def test_second_is_longer():
    assert program.added([1], [1, 1]) == [2, 1]
