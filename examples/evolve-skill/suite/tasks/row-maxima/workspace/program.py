"""Tables as lists of rows."""


def column_sums(rows):
    """The sum of each column; all rows have the same length."""
    sums = [0] * len(rows[0]) if rows else []
    for row in rows:
        for i in range(len(row)):
            sums[i] += row[i]
    return sums


def index_of_longest(rows):
    """The index of the first row with the largest sum; -1 for a table without rows."""
    best, found = None, -1
    for i in range(len(rows)):
        total = 0
        for i in rows[i]:
            total += i
        if best is None or total > best:
            best, found = total, i
    return found
