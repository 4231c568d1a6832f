"""params.yaml: read, checked as a whole before any work, changed.

python -m diffplast.core.params                             check everything
python -m diffplast.core.params scale=smoke maze.smoke.lr=2e-4   change values in place, comments kept, then check

Setting the scale also lists the runs that its `seeds` ask for, in every task.
"""

import difflib
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, create_model, model_validator
from ruamel.yaml import YAML, YAMLError

from diffplast.core import registry
from diffplast.core.errors import UserError
from diffplast.core.task import OTHERS, HeldOut, PerArm, PositiveFloat, Strict, of_arm

SCALES = ("smoke", "laptop", "study")
PATH = Path("params.yaml")


class ParamsError(UserError):
    """What is wrong with params.yaml: every problem, by key."""


def _distinct(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError("the same entry twice")
    return values


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return value

    return check


def _run_of(arms: tuple[str, ...]) -> Callable[[str], str]:
    def check(value: str) -> str:
        arm, _, seed = value.rpartition("-")
        if arm not in arms or not seed.isdecimal() or str(int(seed)) != seed:
            raise ValueError(f"expected ARM-SEED, such as {arms[0]}-0; arms are {', '.join(arms)}")
        return value

    return check


class General(Strict):
    """What does not belong to one task."""

    scale: Literal[SCALES]
    device: Literal["auto", "cpu", "cuda"]
    checkpoint_seconds: PositiveFloat
    datasets: dict[str, str]
    data: dict[str, dict[str, dict[str, Any]]]


def _block(name: str) -> type[BaseModel]:
    """Schema of a task's block, from the task's own models."""
    task = registry.load(name)
    arms = tuple(task.arms)

    def covers(named: set[str]) -> bool:
        return named <= {*arms, OTHERS} and (OTHERS in named or named >= set(arms))

    def every_arm_has_a_value(self):
        values = {f"{scale}.{key}": value for scale in SCALES for key, value in getattr(self, scale)}
        values |= {f"seeds.{scale}": value for scale, value in self.seeds}
        problems = [
            f"{name}.{key}: needs a value for each of {', '.join(arms)}; {OTHERS} stands for those not named"
            for key, value in values.items()
            if isinstance(value, dict) and not covers(set(value))
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    run = Annotated[str, AfterValidator(_run_of(arms))]
    seeds = PerArm[Annotated[int, Field(ge=0)]]
    fields = {
        "runs": (Annotated[list[run], Field(min_length=1), AfterValidator(_distinct)], ...),
        "seeds": (create_model("Seeds", __base__=Strict, **{scale: (seeds, ...) for scale in SCALES}), ...),
        "experiment": (task.Experiment, ...),
        "test": (create_model("Tests", __base__=Strict, **{scale: (HeldOut, ...) for scale in SCALES}), ...),
        **{scale: (task.Settings, ...) for scale in SCALES},
    }
    validators = {"every_arm_has_a_value": model_validator(mode="after")(every_arm_has_a_value)}
    return create_model(f"{task.__name__}Block", __base__=Strict, __validators__=validators, **fields)


def _data_blocks() -> dict[str, tuple]:
    """Schema of the choice of data sets and of their options, from the functions that prepare them."""
    data = import_module("diffplast.data")  # by name: training uses none of it
    chosen = {kind: (Annotated[str, AfterValidator(_one_of(names))], ...) for kind, names in data.DATA_SETS.items()}
    options = {
        kind: create_model(kind, __base__=Strict, **{name: (data.options_model(kind, name), ...) for name in names})
        for kind, names in data.DATA_SETS.items()
    }
    return {
        "datasets": (create_model("Datasets", __base__=Strict, **chosen), ...),
        "data": (create_model("Data", __base__=Strict, **{kind: (model, ...) for kind, model in options.items()}), ...),
    }


def read(path: Path = PATH) -> dict:
    """Read the plain content of a params file. Raises ParamsError where it is not YAML with keys at the top."""
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: there is no such file; run this in the top folder of the project") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


def check(content: dict, task: str | None = None, path: Path = PATH) -> BaseModel:
    """Check the content of a params file: all of it, or all but the blocks of tasks other than `task`.

    Checking for one task ("": for none) imports only that task, so that what a run depends on stays small.
    Raises ParamsError, which lists every problem by key.
    """
    fields = {name: (_block(name) if task in (None, name) else Any, ...) for name in registry.names()}
    if task is None:
        fields |= _data_blocks()
    model = create_model("Params", __base__=General, **fields)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = _explain(error, model)
        raise ParamsError("\n  ".join([f"{path} has {len(problems)} problem(s):", *problems])) from None


def known_scale(name: str) -> str:
    """Return `name`. Raises ParamsError where it is none of SCALES."""
    if name not in SCALES:
        raise ParamsError(f"unknown scale {name!r}; there are {', '.join(SCALES)}")
    return name


def load(task: str | None = None, path: Path = PATH) -> BaseModel:
    """`read`, then `check`."""
    return check(read(path), task, path)


def _explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    lines = []
    for problem in error.errors():
        # The branches of a union appear in the location under their types' names, which are no keys.
        *_, last = parts = [str(part) for part in problem["loc"]]
        if last.startswith(_BRANCHES) and last.startswith("dict[") != isinstance(problem["input"], dict):
            continue  # of the branch that was not meant
        keys = [part for part in parts if not part.startswith(_BRANCHES)]
        key = ".".join(keys) or "(top)"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(keys[-1], _known_keys(model, keys[:-1]), n=1, cutoff=0.5)
            lines.append(f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))
        elif problem["type"] == "missing":
            lines.append(f"{key}: missing")
        else:
            found = f" (found {problem['input']!r})"
            said = problem["msg"].removeprefix("Value error, ")
            lines.append((said if said.startswith(f"{key}.") else f"{key}: {said}{found}")[:300])
    return list(dict.fromkeys(lines))


_BRANCHES = "constrained-", "function-after[", "dict["


def _known_keys(model: type[BaseModel], keys: list[str]) -> list[str]:
    for key in keys:
        annotation = model.model_fields[key].annotation if key in getattr(model, "model_fields", {}) else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)


def assign(assignments: list[str], path: Path = PATH) -> None:
    """Apply `key.path=value` assignments to a params file; only existing keys can be set, and comments stay.

    A scale is set first: with it, every task's `runs` are those that its `seeds` ask for. The file is left as it was
    where the result would not pass `check`, or cannot be written. Raises ParamsError.
    """
    read(path)  # says in a sentence what is wrong with it
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    content = yaml.load(path.read_text(encoding="utf-8"))
    for assignment in sorted(assignments, key=lambda each: not each.startswith("scale=")):
        key, equals, value = assignment.partition("=")
        *parents, last = key.split(".")
        place = content
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict) or last not in place:
            raise ParamsError(f"{assignment!r}: not of the form key=value with a key of {path}")
        try:
            value = yaml.load(value)
        except YAMLError as error:
            raise ParamsError(f"{assignment!r}: not valid YAML: {' '.join(str(error).split())}") from None
        if key == "scale":
            check(content, path=path)  # what is wrong is said by key; what lists runs takes it as right
            _list_runs(content, value)
        if isinstance(place[last], list) and isinstance(value, list):
            place[last][:] = value  # in place: a new list beside the old one's comments would not be valid YAML
        else:
            place[last] = value
    check(content, path=path)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ParamsError(f"{path}: cannot be written: {error}") from None


def _list_runs(content: dict, scale: str) -> None:
    """Have every task's `runs` be those that its `seeds` ask for at a scale."""
    for name in registry.names():
        block = content.get(name, {})
        wanted = block.get("seeds", {}).get(scale)
        if wanted is not None:
            arms = registry.load(name).arms
            block["runs"][:] = [f"{arm}-{seed}" for arm in arms for seed in range(of_arm(wanted, arm))]


def _name_replaced_runs(before: dict, after: dict, assignments: list[str]) -> None:
    """Say which edited `runs` were replaced, where the scale is the one that it was."""
    for name in registry.names() if before["scale"] == after["scale"] else ():
        was, now = before[name]["runs"], after[name]["runs"]
        if was != now and not any(each.startswith(f"{name}.runs=") for each in assignments):
            seeds = f"{name}.seeds.{after['scale']}"
            print(
                f"{name}.runs: {', '.join(now)}, as {seeds} asks, in place of {', '.join(was)}. To run what is listed, "
                "edit it again and use `dvc repro`.",
                file=sys.stderr,
            )


def main() -> int:
    """Command line: see the module's docstring."""
    try:
        if assignments := sys.argv[1:]:
            before = read()
            assign(assignments)
            _name_replaced_runs(before, read(), assignments)
        load()
    except ParamsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
