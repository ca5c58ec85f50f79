import program


def test_the_mark_is_set():
    assert program.MARK != "unset"
