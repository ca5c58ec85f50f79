import program


def test_three():
    assert program.running_totals([1, 2, 3]) == [1, 3, 6]
