import program


def test_two():
    assert program.page([1, 2, 3], 2) == [1, 2]


def test_zero():
    assert program.page([1, 2, 3], 0) == []
