import program


def test_empty():
    assert program.word_count("") == 0


def test_lines_and_tabs():
    assert program.word_count("one\ntwo\tthree") == 3


def test_around():
    assert program.word_count("  padded  ") == 1
