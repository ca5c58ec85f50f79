import program


def test_blank():
    assert not program.is_complete({"name": "A", "street": "  ", "city": "C"})


def test_empty():
    assert not program.is_complete({})


def test_more_than_needed():
    assert program.is_complete({"name": "A", "street": "B", "city": "C", "note": ""})
