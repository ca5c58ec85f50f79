import program


def test_empty():
    assert program.line_count("") == 0


def test_blank_lines():
    assert program.line_count("\n\n") == 2


def test_windows():
    assert program.line_count("a\r\nb\r\n") == 2


def test_one():
    assert program.line_count("a") == 1
