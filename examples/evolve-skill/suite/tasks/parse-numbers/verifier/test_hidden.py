import program


def test_nothing():
    assert program.numbers(["", " ", "1.5"]) == []


def test_signs():
    assert program.numbers(["-3", "+4", " 5 "]) == [-3, 4, 5]


def test_not_a_text():
    try:
        program.numbers([None])
    except TypeError:
        return
    raise AssertionError("None is no text and must not be passed over")
