import program


def test_the_old_board_stays():
    board = [[".", "."], [".", "."]]
    program.played(board, 0, 1, "x")
    assert board == [[".", "."], [".", "."]]
