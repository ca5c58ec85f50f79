import program


def test_first_of_equals():
    assert program.index_of_longest([[7], [7], [7]]) == 0


def test_no_rows():
    assert program.index_of_longest([]) == -1


def test_negative():
    assert program.index_of_longest([[-5, -6], [-1], [-3]]) == 1


def test_last():
    assert program.index_of_longest([[1], [2], [100, 1], [101, 50]]) == 3


def test_empty_row():
    assert program.index_of_longest([[-1], []]) == 1
