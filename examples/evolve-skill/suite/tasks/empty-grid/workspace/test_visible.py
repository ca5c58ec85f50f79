import program


def test_one_cell():
    assert program.marked(2, 2, [(0, 1)]) == [[0, 1], [0, 0]]
