import program


def test_fresh_each_time():
    program.with_tag("a")
    assert program.with_tag("b") == ["b"]
