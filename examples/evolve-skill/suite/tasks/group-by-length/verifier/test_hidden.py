import program


def test_empty():
    assert program.by_length([]) == {}


def test_one_length():
    assert program.by_length(["on", "at", "in"]) == {2: ["on", "at", "in"]}


def test_three_lengths():
    given = ["ab", "a", "abc", "b", "cd"]
    assert program.by_length(given) == {2: ["ab", "cd"], 1: ["a", "b"], 3: ["abc"]}
