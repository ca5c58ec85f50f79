import program


def test_second_is_negative():
    assert not program.all_positive([1, -1])


def test_good():
    assert program.all_positive([1, 2])
