import program


def order(number, *items):
    return {"number": int(str(number)), "items": list(items)}


def test_order_of_items():
    assert program.is_same_order(order(70_001, "b", "a"), order(70_001, "a", "b"))


def test_other_number():
    assert not program.is_same_order(order(70_001, "a"), order(70_002, "a"))


def test_other_items():
    assert not program.is_same_order(order(7, "a"), order(7, "a", "a"))


def test_numbers_as_text():
    number = "".join(["A-", "1001"])
    assert program.is_same_order({"number": number, "items": []}, {"number": "A-1001", "items": []})
