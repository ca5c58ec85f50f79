import program


def test_twice():
    assert program.counts("abca") == {"a": 2, "b": 1, "c": 1}
