import program


def test_large_numbers():
    first = {"number": int("12345"), "items": ["a"]}
    second = {"number": int("12345"), "items": ["a"]}
    assert program.is_same_order(first, second)
