import program


def test_a_price():
    assert program.to_cents(19.99) == 1999


def test_whole():
    assert program.to_cents(3.0) == 300
