import program


def test_one():
    assert program.mask(1) == 1


def test_four():
    assert program.mask(4) == 15
