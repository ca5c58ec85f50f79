import program


def test_complete():
    assert program.is_complete({"name": "A", "street": "B", "city": "C"})


def test_one_missing():
    assert not program.is_complete({"name": "A", "street": "B"})
