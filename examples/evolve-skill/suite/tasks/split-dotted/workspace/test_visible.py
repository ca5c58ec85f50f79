import program


def test_dots():
    assert program.parts("a.b.c") == ["a", "b", "c"]
