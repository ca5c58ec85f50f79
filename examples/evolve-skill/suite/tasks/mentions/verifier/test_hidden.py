import program


def test_missing():
    assert not program.mentions("a big dog", "cat")


def test_the_whole():
    assert program.mentions("cat", "CAT")


def test_empty_text():
    assert not program.mentions("", "x")


def test_end():
    assert program.mentions("the end", "end")
