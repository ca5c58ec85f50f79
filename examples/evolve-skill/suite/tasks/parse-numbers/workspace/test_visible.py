import program


def test_mixed():
    assert program.numbers(["1", "x", "2"]) == [1, 2]
