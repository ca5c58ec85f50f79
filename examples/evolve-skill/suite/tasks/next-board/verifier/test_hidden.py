import program


def test_the_new_board():
    board = [[".", "."], [".", "."]]
    assert program.played(board, 1, 0, "o") == [[".", "."], ["o", "."]]


def test_a_game():
    start = [["."] * 3 for _ in range(3)]
    one = program.played(start, 0, 0, "x")
    two = program.played(one, 2, 2, "o")
    assert one[2][2] == "."
    assert two[0][0] == "x"
    assert start == [["."] * 3 for _ in range(3)]
