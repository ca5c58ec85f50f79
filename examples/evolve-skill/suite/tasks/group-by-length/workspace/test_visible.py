import program


def test_two_lengths():
    assert program.by_length(["a", "bb", "c"]) == {1: ["a", "c"], 2: ["bb"]}
