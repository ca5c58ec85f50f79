import program


def test_some():
    assert program.longest_length("a bcd ef") == 3


def test_empty():
    assert program.longest_length("") == 0
