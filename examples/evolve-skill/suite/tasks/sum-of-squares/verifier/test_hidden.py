import program


def test_one():
    assert program.sum_of_squares(1) == 1


def test_ten():
    assert program.sum_of_squares(10) == 385


def test_many():
    for n in range(60):
        assert program.sum_of_squares(n) == n * (n + 1) * (2 * n + 1) // 6
