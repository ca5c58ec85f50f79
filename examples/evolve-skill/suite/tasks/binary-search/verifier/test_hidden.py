import program


def test_everywhere():
    for size in range(1, 20):
        items = list(range(0, 3 * size, 3))
        for index, item in enumerate(items):
            assert program.position(items, item) == index
            assert program.position(items, item + 1) == -1


def test_empty():
    assert program.position([], 1) == -1
