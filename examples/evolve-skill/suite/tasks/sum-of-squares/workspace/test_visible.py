import program


def test_three():
    assert program.sum_of_squares(3) == 14


def test_zero():
    assert program.sum_of_squares(0) == 0
