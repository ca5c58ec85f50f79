import program


def test_rows_are_their_own():
    rows = program.grid(2, 3)
    assert len({id(row) for row in rows}) == 3


def test_diagonal():
    assert program.marked(3, 3, [(0, 0), (1, 1), (2, 2)]) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_fill():
    assert program.grid(2, 1, "x") == [["x", "x"]]


def test_empty():
    assert program.grid(3, 0) == []
