import program


def test_close():
    assert program.nearly_equal(1.0, 1.005)


def test_far():
    assert not program.nearly_equal(1.0, 5.0)
