import program


def test_last_is_zero():
    assert not program.all_positive([3, 2, 1, 0])


def test_empty():
    assert program.all_positive([])


def test_first():
    assert not program.all_positive([-1, 1])


def test_many():
    assert program.all_positive(range(1, 100))
