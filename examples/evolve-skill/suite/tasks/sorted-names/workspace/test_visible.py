import program


def test_order():
    assert program.in_order(["b", "A"]) == ["A", "b"]
