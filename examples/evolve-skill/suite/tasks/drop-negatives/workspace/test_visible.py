import program


def test_single():
    assert program.drop_negatives([1, -1, 2]) == [1, 2]


def test_two_in_a_row():
    assert program.drop_negatives([1, -1, -2, 2]) == [1, 2]
