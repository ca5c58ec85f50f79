import program


def test_three_ties():
    assert program.table([("c", 1), ("a", 1), ("b", 1), ("z", 9)]) == ["z", "a", "b", "c"]


def test_negative():
    assert program.table([("a", -2), ("b", -1)]) == ["b", "a"]


def test_empty():
    assert program.table([]) == []
