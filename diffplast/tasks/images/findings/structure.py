"""How alike the connections of neighbouring pixels are in a trained network: see `structure` of the experiment."""

from dataclasses import dataclass

from diffplast.report import numbers
from diffplast.report.results import RunResult


@dataclass(frozen=True)
class Structure:
    """Moran's I of a matrix, and its mean and standard deviation when pixels change places at random."""

    value: float
    shuffled: float
    deviation: float

    @property
    def score(self) -> float:
        """How many standard deviations the value lies above shuffled matrices."""
        return (self.value - self.shuffled) / self.deviation

    def __str__(self) -> str:
        value, shuffled, deviation = map(numbers.number, (self.value, self.shuffled, self.deviation))
        return f"{value} (shuffled {shuffled} ± {deviation})"


def structure(run: RunResult, matrix: str) -> Structure:
    """Read the structure of a matrix, "weight" or "alpha", of a run."""
    return Structure(*map(float, run.examples()[f"{matrix}_structure"]))
