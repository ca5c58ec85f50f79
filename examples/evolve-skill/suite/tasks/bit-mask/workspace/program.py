"""Bits of a register."""


def mask(bits):
    """A number whose lowest `bits` bits are one."""
    return 1 << bits - 1


def low_bits(register, bits):
    """The lowest bits of a register."""
    return register & mask(bits)
