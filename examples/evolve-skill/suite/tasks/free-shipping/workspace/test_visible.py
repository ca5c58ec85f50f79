import program


def test_below():
    assert program.shipping(4_999) == 490


def test_at_the_boundary():
    assert program.shipping(5_000) == 0
