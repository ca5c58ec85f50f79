import program


def test_two():
    assert program.last_items([1, 2, 3], 2) == [2, 3]


def test_none():
    assert program.last_items([1, 2, 3], 0) == []
