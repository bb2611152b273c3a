"""Least squares with coefficients that are never negative, and drawn towards a guess."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Vector = list[float]


@dataclass(slots=True)
class Sums:
    """What least squares has to know of weighted rows and targets; sums of them can be added."""

    size: int
    count: int = 0
    gram: list[Vector] = field(init=False)
    right: Vector = field(init=False)
    square: float = 0.0

    def __post_init__(self) -> None:
        self.gram = [[0.0] * self.size for _ in range(self.size)]
        self.right = [0.0] * self.size

    def add(self, row: Sequence[float], target: float, weight: float) -> None:
        """Take one observation; its error counts `weight` times."""
        scaled = [weight * value for value in row]
        target *= weight
        for i, value in enumerate(scaled):
            if value:
                line = self.gram[i]
                self.right[i] += value * target
                for j in range(i + 1):
                    line[j] += value * scaled[j]
        self.square += target * target
        self.count += 1

    def __add__(self, other: "Sums") -> "Sums":
        total = Sums(self.size, self.count + other.count)
        total.square = self.square + other.square
        total.right = [a + b for a, b in zip(self.right, other.right, strict=True)]
        total.gram = [
            [a + b for a, b in zip(mine, theirs, strict=True)]
            for mine, theirs in zip(self.gram, other.gram, strict=True)
        ]
        return total

    def error(self, solution: Sequence[float]) -> float:
        """Sum of the squared weighted errors of `solution`."""
        linear = sum(r * s for r, s in zip(self.right, solution, strict=True))
        quadratic = sum(
            (1.0 if i == j else 2.0) * self.gram[i][j] * solution[i] * solution[j]
            for i in range(self.size)
            for j in range(i + 1)
        )
        return max(0.0, self.square - 2 * linear + quadratic)

    def solve(self, guess: Sequence[float], pulls: Sequence[float]) -> Vector:
        """The coefficients of least squared error, none of them negative.

        Each is drawn towards its `guess`: their squared difference counts as an error, its pull,
        above 0, times.
        """
        size = range(self.size)
        units = [(self.gram[i][i] + pulls[i]) ** -0.5 for i in size]
        matrix = [
            [
                (self.gram[max(i, j)][min(i, j)] + pulls[i] * (i == j)) * units[i] * units[j]
                for j in size
            ]
            for i in size
        ]
        right = [(self.right[i] + pulls[i] * guess[i]) * units[i] for i in size]
        solution = non_negative(matrix, right)
        return [value * unit for value, unit in zip(solution, units, strict=True)]


def non_negative(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> Vector:
    """The x >= 0 that minimizes x'Ax / 2 - b'x, for a positive definite A.

    The active-set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23).
    """
    size = len(right)
    solution = [0.0] * size
    free: list[int] = []
    for _ in range(3 * size):
        gains = [
            right[i] - sum(a * x for a, x in zip(matrix[i], solution, strict=True))
            for i in range(size)
        ]
        candidates = [i for i in range(size) if i not in free and gains[i] > 1e-12]
        if not candidates:
            break
        free.append(max(candidates, key=lambda i: gains[i]))
        solution = _within_bounds(matrix, right, free, solution)
    return solution


def _within_bounds(
    matrix: Sequence[Sequence[float]], right: Sequence[float], free: list[int], before: Vector
) -> Vector:
    """The minimum over `free`, which loses the coefficients that would be negative there."""
    while free:
        values = _solved(matrix, right, free)
        if min(values) > 0:
            break
        step, blocking = min(
            (before[i] / (before[i] - value) if before[i] else 0.0, i)
            for i, value in zip(free, values, strict=True)
            if value <= 0
        )
        for i, value in zip(free, values, strict=True):
            before[i] += step * (value - before[i])
        before[blocking] = 0.0
        free.remove(blocking)
    solution = [0.0] * len(right)
    for i, value in zip(free, values if free else (), strict=True):
        solution[i] = value
    return solution


def _solved(
    matrix: Sequence[Sequence[float]], right: Sequence[float], chosen: Sequence[int]
) -> Vector:
    """Gaussian elimination of the chosen rows and columns; no pivoting, as A is positive."""
    rows = [[*(matrix[i][j] for j in chosen), right[i]] for i in chosen]
    size = len(rows)
    for i in range(size):
        for r in range(i + 1, size):
            factor = rows[r][i] / rows[i][i]
            for c in range(i, size + 1):
                rows[r][c] -= factor * rows[i][c]
    values = [0.0] * size
    for i in reversed(range(size)):
        known = sum(rows[i][c] * values[c] for c in range(i + 1, size))
        values[i] = (rows[i][size] - known) / rows[i][i]
    return values
