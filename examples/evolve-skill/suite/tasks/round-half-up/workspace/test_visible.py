import program


def test_half():
    assert program.rounded(2.5) == 3


def test_below():
    assert program.rounded(2.4) == 2
