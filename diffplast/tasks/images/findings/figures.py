"""What the networks make of unseen images, and the matrices that training left."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from diffplast.report import numbers, style
from diffplast.report.results import ResultsError, RunResult, TaskResults


def _example_runs(results: TaskResults, arms) -> dict[str, RunResult]:
    """Return the first finished run of each of `arms`, all of one seed where there is one."""
    finished = {arm: {r.run.seed: r for r in results.finished(arm)} for arm in arms if arm in results.arms}
    finished = {arm: runs for arm, runs in finished.items() if runs}
    if not finished:
        return {}
    shared = set.intersection(*(set(runs) for runs in finished.values()))
    return {arm: runs[min(shared or runs)] for arm, runs in finished.items()}


def _nothing(heading: str) -> tuple[Figure, str]:
    """Return a figure that says why there is nothing to see."""
    figure = Figure(figsize=(style.WIDTH, 0.6))
    style.title(figure, heading)
    return figure, heading


def restored(results: TaskResults) -> tuple[Figure, str]:
    """Draw one column an unseen episode: the images presented, the cue, what each arm restores of it, the truth."""
    runs = _example_runs(results, ("plastic", "nonplastic"))
    if not runs:
        return _nothing("Unseen images: no finished run")
    examples = {arm: run.examples() for arm, run in runs.items()}
    first = next(iter(examples.values()))
    for arm, shown in examples.items():
        if not np.array_equal(shown["target"], first["target"]):
            raise ResultsError(f"{runs[arm].run.results}/examples.npz shows other images than its sister runs'")

    rows = [("presented", [image[i] for image in first["presented"]]) for i in range(first["presented"].shape[1])]
    rows.append(("degraded", first["cue"]))
    rows += [(f"restored:\n{results.label(arm)}", shown["restored"]) for arm, shown in examples.items()]
    rows.append(("true", first["target"]))
    columns = len(first["target"])

    figure = Figure(figsize=(style.WIDTH, 0.47 * len(rows) + 0.45))
    # A little air between what is presented, what is asked, what is answered.
    heights, gap = [], {"degraded", "true"} | {rows[-1 - len(examples)][0]}
    for label, _ in rows:
        heights += ([0.18] if label in gap else []) + [1]
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights, hspace=0.03, wspace=0.03)
    places = [index for index, height in enumerate(heights) if height == 1]
    limit = float(np.abs(first["target"]).max())
    # Without interpolation an SVG keeps the pixels as they are, instead of an enlarged copy.
    for place, (label, images) in zip(places, rows, strict=True):
        for column, image in enumerate(images):
            axes = figure.add_subplot(grid[place, column])
            axes.imshow(image.astype(np.float32), cmap="gray", vmin=-limit, vmax=limit, interpolation="none")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if column == 0:
                name = "" if label == "presented" and place != places[first["presented"].shape[1] // 2] else label
                axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    figure.get_layout_engine().set(h_pad=0.01, w_pad=0.01, hspace=0, wspace=0)
    errors = ", ".join(
        f"{numbers.show(results.measure, np.median(results.values(arm)))} {results.label(arm)}" for arm in runs
    )
    if "plastic" in runs:
        blank = float(np.median(results.values("plastic", "blank_error")))
        errors += f", {numbers.show(results.measure, blank)} left blank"
    style.title(figure, f"Unseen images, one half restored from memory: squared error {errors}")
    description = (
        f"{columns} unseen episodes as columns. Rows: the {first['presented'].shape[1]} images presented; one of "
        f"them with its upper or lower half blanked; what the {' and the '.join(map(results.label, runs))} network "
        f"restore of it; the true image. Median squared error over all unseen episodes and seeds: {errors}."
    )
    return figure, description


def structure(run: RunResult, name: str) -> str:
    """Say how alike the entries of neighbouring pixels are in a matrix of a run, against shuffled matrices."""
    value, mean, sd = (run.metric(f"{name}_structure{part}") for part in ("", "_shuffled_mean", "_shuffled_sd"))
    return f"{numbers.number(value)} (shuffled {numbers.number(mean)} ± {numbers.number(sd)})"


def matrices(results: TaskResults) -> tuple[Figure, str]:
    """Draw the weights w and the coefficients α of a plastic network, with the number of their structure."""
    runs = _example_runs(results, ("plastic",))
    if not runs:
        return _nothing("The matrices w and α: no finished run")
    shown = runs["plastic"].examples()
    side = results.block.experiment.side
    figure = Figure(figsize=(style.WIDTH, 2.25))
    # In 17 colours the two pictures, mostly noise, take three fifths of the bytes that they take in 254.
    colours = colormaps["RdBu_r"].resampled(17)
    reach = []
    for axes, (name, label) in zip(
        figure.subplots(1, 2), (("weight", "weights w"), ("alpha", "plasticity α")), strict=True
    ):
        matrix = shown[name].astype(np.float32)
        limit = float(np.percentile(np.abs(matrix), 99.5))
        picture = axes.imshow(
            matrix, cmap=colours, vmin=-limit, vmax=limit, extent=(0, side**2, side**2, 0), interpolation="none"
        )
        value = numbers.number(runs["plastic"].metric(f"{name}_structure"))
        axes.set_title(f"{label}: correlation {value}", fontsize=7)
        axes.set(xlabel="to pixel", xticks=[0, side**2], yticks=[0, side**2])
        bar = figure.colorbar(picture, ax=axes, orientation="horizontal", fraction=0.05, pad=0.02, extend="both")
        bar.ax.locator_params(nbins=2)
        bar.ax.xaxis.set_major_formatter("{x:g}")
        bar.outline.set_linewidth(0.4)
        if name == "weight":
            axes.set_ylabel("from pixel", labelpad=-8)
        reach.append(f"{numbers.number(float(np.abs(matrix).max()))} in {label.split()[-1]}")
    sizes = " and ".join(reach)
    edge = side**2 // len(shown["alpha"])
    block = f"{edge} × {edge}"
    alike = structure(runs["plastic"], "alpha")
    style.title(figure, f"Structure of α: the connections of neighbouring pixels correlate by {alike}")
    description = (
        f"The weights w and the plasticity coefficients α of one trained plastic network as two square pictures, a "
        f"row for each pixel from which and a column for each pixel to which a connection leads; blue is negative, "
        f"red positive. The largest magnitude is {sizes}; each point is the strongest of {block} connections. The "
        f"correlation of neighbouring pixels' connections is {structure(runs['plastic'], 'weight')} in w and {alike} "
        "in α."
    )
    return figure, description
