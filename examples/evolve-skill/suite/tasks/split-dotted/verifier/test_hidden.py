import program


def test_slashes():
    assert program.parts("usr/lib") == ["usr", "lib"]


def test_both():
    assert program.parts("a/b.c") == ["a", "b", "c"]


def test_one():
    assert program.parts("word") == ["word"]


def test_empty_part():
    assert program.parts("a..b") == ["a", "", "b"]
