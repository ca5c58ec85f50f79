import program


def test_the_given_list_stays():
    names = ["c", "a", "b"]
    program.in_order(names)
    assert names == ["c", "a", "b"]


def test_stable():
    assert program.in_order(["b", "a", "B", "A"]) == ["a", "A", "b", "B"]


def test_empty():
    assert program.in_order([]) == []
