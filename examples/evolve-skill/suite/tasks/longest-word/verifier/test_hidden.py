import program


def test_blank():
    assert program.longest_length("  \n ") == 0


def test_lines():
    assert program.longest_length("one\nthree two") == 5


def test_one():
    assert program.longest_length("x") == 1
