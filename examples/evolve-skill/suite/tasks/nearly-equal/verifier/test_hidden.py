import program


def test_far_above():
    assert not program.nearly_equal(5.0, 1.0)


def test_close_above():
    assert program.nearly_equal(1.005, 1.0)


def test_negative():
    assert not program.nearly_equal(-3.0, 3.0)


def test_wide():
    assert program.nearly_equal(10, 12, tolerance=2)
    assert not program.nearly_equal(10, 13, tolerance=2)
