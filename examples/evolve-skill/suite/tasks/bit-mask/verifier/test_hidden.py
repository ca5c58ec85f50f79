import program


def test_zero():
    assert program.mask(0) == 0


def test_all():
    assert [program.mask(n) for n in range(1, 9)] == [1, 3, 7, 15, 31, 63, 127, 255]


def test_low_bits():
    assert program.low_bits(0b1011_0110, 4) == 0b0110
    assert program.low_bits(0b1011_0110, 3) == 0b110
