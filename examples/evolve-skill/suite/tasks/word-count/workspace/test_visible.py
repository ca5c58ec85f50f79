import program


def test_two():
    assert program.word_count("two words") == 2


def test_double_space():
    assert program.word_count("two  words") == 2
