import program


def test_inside():
    assert program.mentions("a big dog", "Big")


def test_at_the_start():
    assert program.mentions("Dogs bark", "dog")
