"""DVC itself under bad conditions: two at once, a queue with two workers, a cache that is damaged."""

import json
import os
import time

import pytest
from ruamel.yaml import YAML

from tests.test_pipeline import Clone

pytestmark = pytest.mark.slow

TASK = "stages/binary_small"
RUN = "smoke-lstm-0"
TRAIN, EVALUATE = (f"{TASK}/dvc.yaml:{stage}@{RUN}" for stage in ("train", "evaluate"))
LRS = "binary_small.smoke.lr={{plastic: 0.1, plastic_long: 0.1, nonplastic: 0.1, lstm: {}}}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy in which one small run has been trained and evaluated."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.set("scale=smoke", "binary_small.experiment.lstm_hidden=50")
    clone.repro(EVALUATE)
    clone.run("git", "add", "--all")
    clone.run("git", "-c", "user.name=test", "-c", "user.email=test", "commit", "--quiet", "-m", "run")
    return clone


@pytest.fixture(autouse=True)
def restored(clone):
    """Every change of params or sources is taken back after the test."""
    yield
    clone.run("git", "checkout", "--quiet", "--", ".")


def weights(clone, lock: str) -> str:
    """What DVC's cache has as the weights of the run in a dvc.lock."""
    (run,) = YAML(typ="safe").load(lock)["stages"][f"train@{RUN}"]["outs"]
    files = json.loads(cached(clone, run["md5"]).read_text())
    return next(file["md5"] for file in files if file["relpath"] == "weights.pt")


def cached(clone, md5: str):
    return clone.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def lock(clone) -> str:
    return (clone.folder / TASK / "dvc.lock").read_text()


def test_the_second_of_two_says_that_the_first_is_at_work(clone):
    clone.set("binary_small.smoke.episodes={lstm: 40000, others: 10}", "checkpoint_seconds=0.5")
    checkpoint = clone.folder / "checkpoints" / "smoke" / "binary_small" / "lstm-0.pt"
    first = clone.start("dvc", "repro", EVALUATE)
    while not checkpoint.exists() and first.poll() is None:
        time.sleep(0.1)
    said = clone.run("dvc", "repro", EVALUATE, succeeds=False)
    assert "is busy, it is being blocked by" in said and f"(PID {first.pid})" in said
    assert "Traceback" not in said
    output, _ = first.communicate()
    assert first.returncode == 0, output
    assert clone.repro("--dry", EVALUATE) == set()


def test_a_queue_with_two_workers_gives_what_one_run_after_the_other_gives(clone):
    for rate in ("0.001", "0.002"):
        clone.run("dvc", "exp", "run", "--queue", "--name", f"at-{rate}", "-S", LRS.format(rate), EVALUATE)
    # The workers outlive the command, with its output open: a pipe would not end.
    clone.run("sh", "-c", "dvc queue start --jobs 2 > /dev/null 2>&1")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (
        "Queued" in (status := clone.run("dvc", "queue", "status")) or "Running" in status
    ):
        time.sleep(3)
    assert status.count("Success") == 2, status
    refs = clone.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    for rate in ("0.001", "0.002"):
        (ref,) = [name for name in refs if name.endswith(f"/at-{rate}")]
        clone.set(LRS.format(rate))
        clone.run("dvc", "repro", "--force", "--no-run-cache", EVALUATE)
        assert weights(clone, clone.run("git", "show", f"{ref}:{TASK}/dvc.lock")) == weights(clone, lock(clone))
        metrics = "reports/smoke/runs/binary_small/lstm-0/metrics.json"
        assert clone.run("git", "show", f"{ref}:{metrics}") == (clone.folder / metrics).read_text()


def test_damaged_cache_entry_is_said_and_mended(clone):
    clone.repro(EVALUATE)
    before = weights(clone, lock(clone))
    entry = cached(clone, before)
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.chmod(0o644)
    entry.write_bytes(content)
    entry.chmod(0o444)  # DVC trusts what cannot be written to
    clone.run("rm", "-r", "runs")
    clone.edit("stages/evaluate.py")
    said = clone.run("dvc", "repro", EVALUATE, succeeds=False)
    assert "runs/smoke/binary_small/lstm-0: damaged" in said and "Traceback" not in said
    remedy = said.partition("`")[2].partition("`")[0].replace("dvc repro", f"dvc repro {EVALUATE}")
    clone.run("sh", "-c", remedy)
    assert weights(clone, lock(clone)) == before
    assert clone.repro("--dry", EVALUATE) == set()


def test_missing_cache_entry_is_made_again_or_left_alone(clone):
    clone.repro(EVALUATE)
    before = weights(clone, lock(clone))
    os.remove(cached(clone, before))
    clone.run("rm", "-r", "runs")
    assert clone.repro("--dry", "--allow-missing", EVALUATE) == set()
    assert TRAIN in clone.repro(EVALUATE)
    assert weights(clone, lock(clone)) == before
