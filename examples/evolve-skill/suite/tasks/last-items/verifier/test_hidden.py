import program


def test_more_than_there_are():
    assert program.last_items([1, 2], 5) == [1, 2]


def test_none_of_texts():
    assert program.last_items(["a"], 0) == []


def test_empty():
    assert program.last_items([], 0) == []
    assert program.last_items([], 3) == []


def test_all():
    assert program.last_items(["x", "y"], 2) == ["x", "y"]
    assert program.last_items(["x", "y"], 1) == ["y"]
