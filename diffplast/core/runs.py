"""One run = one task, scale, arm and seed: where its files are, and the objects that a stage needs for it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from diffplast.core import dataset, params, registry
from diffplast.core.errors import UserError
from diffplast.core.task import Task


@dataclass(frozen=True)
class Run:
    """Names of one run."""

    task: str
    scale: str
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.task} {self.scale} {self.arm} seed {self.seed}"

    @property
    def name(self) -> str:
        """Name within its task and scale, as params.yaml lists it."""
        return f"{self.arm}-{self.seed}"

    @property
    def folder(self) -> Path:
        """What training leaves: weights.pt, curve.csv, outcome.json, run.json. In the DVC cache."""
        return Path("runs", self.scale, self.task, self.name)

    @property
    def results(self) -> Path:
        """What evaluation leaves for figures, report and replays, such as metrics.json and curve.csv. In git."""
        return Path("reports", self.scale, "runs", self.task, self.name)

    @property
    def replayed(self) -> Path:
        """With what code the run was last replayed, where it was: `diffplast.verify.relock` writes it. In git."""
        return self.results / "replayed.json"

    @property
    def checkpoint(self) -> Path:
        """State of an unfinished training; outside of what DVC removes before a stage."""
        return Path("checkpoints", self.scale, self.task, f"{self.name}.pt")

    @property
    def live(self) -> Path:
        """The curve so far of an unfinished training, which DVC draws."""
        return Path("live", self.scale, self.task, f"{self.name}.tsv")


def data_folder(kind: str, scale: str) -> Path:
    """Folder of a prepared data set: data.npz, and source.json, where it comes from."""
    return Path("data", scale, kind)


def device(name: str) -> torch.device:
    """The device that params.yaml asks for. Raises ParamsError where it is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise params.ParamsError("device: cuda, but torch finds no usable GPU; set device to auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def open_task(run: Run, checked: params.BaseModel) -> Task:
    """Make the task of a run, with its data.

    checked: what `params.load(run.task)` returned. Raises ParamsError for an arm that the task does not have,
    DataError where its data set is not prepared or damaged.
    """
    kind = registry.load(run.task)
    block = getattr(checked, run.task)
    if run.arm not in kind.arms:
        raise params.ParamsError(f"{run.task} has no arm {run.arm!r}; it has {', '.join(kind.arms)}")
    be_deterministic()
    data = None
    if kind.dataset is not None:
        data = dataset.load(data_folder(kind.dataset, run.scale) / "data.npz", kind.dataset)
    return kind(block.experiment, getattr(block, run.scale), run.arm, device(checked.device), data)


def be_deterministic() -> None:
    """Have torch refuse, in this process, what would not give the same bits again."""
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import torch's compiler: 1.5 s
    torch.utils.deterministic.fill_uninitialized_memory = False  # that mode fills each new tensor with NaN first


@contextmanager
def report_user_errors(after_interrupt: str = "the same command runs it again") -> Iterator[None]:
    """Decorates the main function of a stage: what the user can mend ends in a sentence and exit status 1.

    Of anything else the traceback is shown, after a sentence. after_interrupt: what is said after Ctrl-C.
    """
    stage = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    try:
        yield
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{where}{error.strerror or error}; mend this and run the same command again", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{stage}: stopped; {after_interrupt}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        print(f"{stage}: stopped by a fault of the program ({type(error).__name__}), shown below", file=sys.stderr)
        raise


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Has every OSError inside name a file, or at least this folder: a full disk does not say what was written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or str(folder)) from error


def parse_run(arguments: list[str], usage: str) -> Run:
    """Return the run that a command line names: TASK SCALE ARM-SEED. Exits with the usage where it names none.

    Raises ParamsError for a scale that there is not.
    """
    if len(arguments) != 3:
        sys.exit(usage)
    task, scale, name = arguments
    arm, dash, seed = name.rpartition("-")
    if not (dash and seed.isdecimal()):
        sys.exit(usage)
    return Run(task, params.known_scale(scale), arm, int(seed))


def write_json(path: Path, content: dict) -> None:
    """Write indented JSON with a final newline."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
