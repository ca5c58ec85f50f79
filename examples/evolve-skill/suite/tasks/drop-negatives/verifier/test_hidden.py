import program


def test_all_negative():
    assert program.drop_negatives([-1, -2, -3, -4]) == []


def test_the_list_itself():
    readings = [3, -3, -3, 3]
    assert program.drop_negatives(readings) is readings
    assert readings == [3, 3]


def test_equal_values():
    assert program.drop_negatives([-1, -1, -1, 0, -1]) == [0]


def test_empty():
    assert program.drop_negatives([]) == []
