import program


def test_the_mark_is_the_one_that_the_text_names():
    assert program.header() == "# heron-4711"
