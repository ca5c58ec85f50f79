import program


def test_points():
    assert program.table([("a", 1), ("b", 3)]) == ["b", "a"]


def test_ties():
    assert program.table([("y", 2), ("x", 2)]) == ["x", "y"]
