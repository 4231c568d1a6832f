"""What goes wrong in a stage reaches the user as a sentence."""

import pytest

from diffplast.core import runs
from diffplast.core.errors import UserError


def stage(error: BaseException):
    @runs.report_user_errors()
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("params.yaml: no such arm"), "params.yaml: no such arm\n"),
        (FileNotFoundError(2, "No such file", "runs/a"), "runs/a: No such file; mend this and run the same"),
        (OSError("something else"), "something else; mend this and run the same"),
    ],
    ids=["user", "file", "other"],
)
def test_what_the_user_can_mend_is_one_sentence(capsys, error, sentence):
    with pytest.raises(SystemExit) as stop:
        stage(error)()
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(sentence) and said.count("\n") == 1


def test_interrupted_outside_of_training(capsys):
    with pytest.raises(SystemExit) as stop:
        stage(KeyboardInterrupt())()
    assert stop.value.code == 130
    assert "the same command runs it again" in capsys.readouterr().err


def test_a_fault_of_the_program_is_said_before_its_traceback(capsys):
    with pytest.raises(ZeroDivisionError):
        stage(ZeroDivisionError("by zero"))()
    assert "a fault of the program (ZeroDivisionError), shown below" in capsys.readouterr().err


def test_an_error_of_writing_names_at_least_the_folder(tmp_path):
    with pytest.raises(OSError) as error, runs.writing_to(tmp_path):
        raise OSError(28, "No space left on device")
    assert error.value.filename == str(tmp_path)
    with pytest.raises(OSError) as error, runs.writing_to(tmp_path):
        raise OSError(28, "No space left on device", "a file")
    assert error.value.filename == "a file"


def test_a_run_is_named_by_task_scale_arm_and_seed():
    run = runs.parse_run(["binary_small", "smoke", "plastic_long-12"], "usage")
    assert run == runs.Run("binary_small", "smoke", "plastic_long", 12) and run.name == "plastic_long-12"
    for arguments in (["maze", "smoke", "plastic"], ["maze", "smoke"], ["maze", "smoke", "plastic-x"]):
        with pytest.raises(SystemExit, match="usage"):
            runs.parse_run(arguments, "usage")
