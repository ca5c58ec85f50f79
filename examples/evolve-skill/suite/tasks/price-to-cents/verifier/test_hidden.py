import program


def test_all_prices():
    for cents in range(0, 5_000):
        assert program.to_cents(cents / 100) == cents


def test_refund():
    assert program.to_cents(-1.15) == -115


def test_total():
    assert program.total_cents([0.29, 0.57, 1.10]) == 196


def test_whole_number():
    assert program.to_cents(7) == 700
