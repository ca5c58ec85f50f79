import program


def test_boundary_express():
    assert program.shipping(5_000, express=True) == 900


def test_just_below_express():
    assert program.shipping(4_999, express=True) == 1_390


def test_above():
    assert program.shipping(5_001) == 0


def test_nothing():
    assert program.shipping(0) == 490
