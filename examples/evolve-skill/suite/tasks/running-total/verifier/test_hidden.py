import program


def test_signs():
    assert program.running_totals([5, -5, 2, -1]) == [5, 0, 2, 1]


def test_empty():
    assert program.running_totals([]) == []


def test_last_is_the_sum():
    values = [3, 1, 4, 1, 5, 9, 2, 6]
    assert program.running_totals(values)[-1] == sum(values)
