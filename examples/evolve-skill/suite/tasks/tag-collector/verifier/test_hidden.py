import program


def test_three_calls():
    assert [program.with_tag(x) for x in "abc"] == [["a"], ["b"], ["c"]]


def test_given_list():
    assert program.with_tag("z", ["x", "y"]) == ["x", "y", "z"]


def test_after_a_given_list():
    program.with_tag("q", ["p"])
    assert program.with_tag("r") == ["r"]
