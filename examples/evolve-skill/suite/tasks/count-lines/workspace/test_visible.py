import program


def test_with_an_end():
    assert program.line_count("a\nb\n") == 2


def test_without():
    assert program.line_count("a\nb") == 2
