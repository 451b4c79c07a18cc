"""The words that a user types, what comes back on which stream, and the exit codes."""

import errno
import logging
import os
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from segpipe.cli import faults, main, output
from segpipe.cli.output import guarded
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError, DataError, GeometryError, ModelError

COMMANDS = ("train", "plan", "preview", "inspect", "predict", "evaluate", "export", "doctor")


def call(*arguments: str) -> int:
    """Exit code of one command line, in this process."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_help_answers_in_half_a_second_and_imports_no_torch() -> None:
    code = "import sys; from segpipe.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint([m for m in sys.modules])"
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # processor time, which other programs do not lengthen
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    modules = run.stdout.splitlines()[-1]
    assert not [name for name in ("torch", "numpy", "hydra", "monai", "nibabel") if f"'{name}'" in modules]
    assert min(seconds) < 0.5


USES = {"predict": ("model.ts", "scans", "out"), "listen": ("model.ts", "out"), "serve": ("model.ts",)}
"""The commands that compute with a model, and the paths that each wants."""


def test_the_commands_that_use_a_model_say_their_common_options_alike() -> None:
    from typer.main import get_command

    from segpipe.cli.app import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    told = {name: {one.name: (one.help, one.metavar, one.default) for one in commands[name].params} for name in USES}
    for option in ("precision", "runtime", "threads", "memory_gb"):
        assert len({told[name][option] for name in USES}) == 1, option
    for option in ("device", "timeout", "policy", "seg_type", "series_description", "series_number"):
        assert told["predict"][option] == told["listen"][option], option


@pytest.mark.parametrize("command", USES)
@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--precision", "fp64", "auto, fp32, bf16"),
        ("--runtime", "onnx", "auto, torch, openvino"),
        ("--threads", "-1", "0 to 1024"),
        ("--memory-gb", "-1", "0 to 100000"),
        ("--timeout", "-1", "0 to 1e\\+07"),
    ],
)
def test_the_commands_that_use_a_model_refuse_the_same_values(
    command: str, option: str, value: str, allowed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, *USES[command], option, value) == 2
    assert re.fullmatch(f"error: {option}: is '?{value}'?; must be (one of )?{allowed}\\n", capsys.readouterr().err)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    assert f"\n  segpipe {command} " in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("hub",)])
def test_no_sentence_of_a_list_of_commands_is_cut_off(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words, "--help") == 0
    commands = capsys.readouterr().out.split("\nCommands:\n")[1].split("\n\n")[0]
    told = re.split(r"\n  (?=\S)", f"\n{commands.rstrip()}")[1:]
    assert len(told) >= 3
    for one in told:
        assert one.endswith(".") and not one.endswith("..."), one


def test_the_help_of_train_lists_tasks_groups_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--help") == 0
    shown = capsys.readouterr().out
    for word in ("conf=prostate", "conf=hippocampus", "conf=./mine.yaml", "network=vnet", "training.max_minutes=20", "default.yaml"):
        assert word in shown


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("segpipe ")


@pytest.mark.parametrize(
    ("arguments", "said", "cure"),
    [
        (["nonsense"], "no such command 'nonsense'", "segpipe --help"),
        (["--quiet"], "missing command", "segpipe --help"),
        (["predict"], "missing argument 'MODEL... IN OUT'; must be segpipe predict [OPTIONS] MODEL... IN OUT", "segpipe predict --help"),
        (["inspect"], "missing argument 'DATA'; must be segpipe inspect [OPTIONS] DATA", "segpipe inspect --help"),
        (["evaluate", "a"], "missing argument 'TRUTH'; must be segpipe evaluate [OPTIONS] PRED TRUTH", "segpipe evaluate --help"),
        (["evaluate", "a", "b", "--seed", "x"], "invalid value for '--seed': ", "segpipe evaluate --help"),
        (["train", "--fast"], "no such option: --fast; must be segpipe train [OPTIONS] [SETTING=VALUE]...", "segpipe train --help"),
        (["doctor", "--json"], "option '--json' requires an argument", "segpipe --help"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_what_to_do_and_ends_with_two(
    arguments: list[str], said: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {said}")
    assert shown.err.endswith(f"see {cure}\n")
    assert shown.err.count("\n") == 1
    assert not {"{", "}"} & set(shown.err)
    assert shown.out == ""


def test_no_word_at_all_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "  inspect   " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "training.max_minuts=3"], 2, "error: training.max_minuts: unknown key; did you mean training.max_minutes?"),
        (["plan", "conf=nope"], 2, "error: conf=nope: no such choice"),
        (["preview", "seed=-1"], 2, "error: seed: is -1; must be a whole number from 0 to 2147483647"),
        (["train", "-m", "seed=1,x"], 2, "error: seed: is 'x'; must be a whole number"),
        (["predict", "model.ts", "in"], 2, "error: predict: got 2 path(s); must be MODEL... IN OUT"),
        (["predict", "m.ts", "in", "out", "--overlap", "2"], 2, "error: --overlap: is 2; must be 0 to 0.95"),
        (["predict", "m.ts", "in", "out", "--threads", "-1"], 2, "error: --threads: is -1; must be 0 to 1024"),
        (["predict", "m.ts", "in", "out", "--workers", "0"], 2, "error: --workers: is 0; must be 1 to 256"),
        (["predict", "m.ts", "in", "out", "--timeout", "-1"], 2, "error: --timeout: is -1; must be 0 to 1e+07"),
        (["predict", "m.ts", "in", "out", "--shard", "0/4"], 2, "error: --shard: is '0/4'; must be NUMBER/COUNT, counted from 1"),
        (["predict", "m.ts", __file__, "out", "--watch"], 2, f"error: --watch: {__file__} is a file; must be a folder"),
        (["predict", "m.ts", "in", "out", "--precision", "fp8"], 2, "error: --precision: is 'fp8'; must be one of auto, fp32, bf16"),
        (["inspect", "in", "--layout", "foo"], 2, "error: --layout: is 'foo'; must be one of auto, msd, nnunet, folders, manifest"),
        (["evaluate", "a", "b", "--label", "PZ"], 2, "error: --label PZ: must be VALUE=NAME"),
        (["inspect", "/no/such/folder"], 3, "error: /no/such/folder: "),
        (["predict", "m.ts", "/no/such/scan.nii.gz", "out"], 3, "error: /no/such/scan.nii.gz: "),
        (["evaluate", "/no/such/folder", "/nor/this"], 3, "error: /no/such/folder: "),
        (["export", "/no/such/run"], 2, "error: /no/such/run: "),
    ],
)
def test_a_wrong_value_or_path_is_one_line_on_stderr(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == code
    shown = capsys.readouterr()
    assert shown.err.startswith(said)
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_the_settings_can_be_printed_without_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "conf=prostate", "seed=5", "--cfg") == 0
    assert "name: prostate\nrun_dir: ''\nseed: 5\n" in capsys.readouterr().out


def test_each_run_of_a_sweep_can_be_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", "-m", "conf=phantom", "seed=3,4", "--cfg") == 0
    shown = capsys.readouterr().out
    assert "# run_dir runs/phantom/seed=3" in shown
    assert "\nseed: 4\n" in shown


def test_debug_may_stand_at_the_end_and_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("inspect", "/no/such/folder", "--debug") == 3
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("error: /no/such/folder: ")


def disk(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/out.nii.gz")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("a: b"), 2, "error: a: b"),
        (DataError("a:\n b"), 3, "error: a: b"),
        (GeometryError("a"), 4, "error: a"),
        (ModelError("a"), 5, "error: a"),
        (KeyboardInterrupt(), 130, "stopped"),
        (disk(errno.ENOSPC), 2, "error: /data/out.nii.gz: the disk is full; free space there, or choose another place"),
        (disk(errno.EACCES), 2, "error: /data/out.nii.gz: permission denied; choose another place, or change its permissions"),
        (disk(errno.EROFS), 2, "error: /data/out.nii.gz: the place is read-only; choose another one"),
        (disk(errno.ENOENT), 2, "error: /data/out.nii.gz: not there; check the path"),
        (MemoryError(), 2, "error: the memory does not suffice"),
        (RuntimeError("pair.cc:553] Connection closed by peer"), 1, "error: another process of this training has ended"),
        (ValueError("x\ny"), 1, "bug: ValueError: x y; run again with --debug and report what it prints"),
    ],
)
def test_whatever_a_command_raises_is_one_line_and_its_exit_code(error: BaseException, code: int, line: str) -> None:
    said, found = faults.explain(error)
    assert found == code
    assert said.startswith(line)
    assert "\n" not in said


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.exceptions.Abort()])
def test_ctrl_c_before_a_command_has_begun_or_while_it_ends_is_one_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(**_: object) -> None:
        raise error

    output.set_up(debug=False, quiet=False)
    monkeypatch.setattr("segpipe.cli.app.app", stopped)
    assert call("--version") == 130
    assert capsys.readouterr().err == "stopped\n"


def ends(function: Callable[[], Outcome]) -> int:
    """Exit code of a guarded command."""
    with pytest.raises(Exception) as caught:
        guarded(function)()
    return int(getattr(caught.value, "exit_code", -1))


def test_a_bug_shows_no_traceback_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Outcome:
        raise ValueError("surprise")

    output.set_up(debug=False, quiet=False)
    assert ends(broken) == 1
    assert capsys.readouterr().err == "bug: ValueError: surprise; run again with --debug and report what it prints\n"
    output.set_up(debug=True, quiet=False)
    assert ends(broken) == 1
    assert "Traceback" in capsys.readouterr().err
    output.set_up(debug=False, quiet=False)


def test_an_outcome_is_printed_and_its_exit_code_kept(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table("label", "Dice")
    table.add_row("PZ", "0.90")
    assert ends(lambda: Outcome(["[1, 2] a line longer than a terminal is wide " * 5, table], 3)) == 3
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("[1, 2] a line")
    assert any("PZ" in line and "0.90" in line for line in shown)


def test_our_log_reaches_the_user_and_the_libraries_warnings_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> Outcome:
        logging.getLogger("segpipe.training").info("preparing 8 cases")
        logging.getLogger("segpipe.training").warning("only 4 cases")
        logging.getLogger("other_library").warning("noise")
        warnings.warn("more noise", UserWarning, stacklevel=1)
        return Outcome()

    output.set_up(debug=False, quiet=False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        output.set_up(debug=False, quiet=False)
        assert ends(command) == 0
        assert capsys.readouterr().err == "preparing 8 cases\nwarning: only 4 cases\n"
        output.set_up(debug=False, quiet=True)
        assert ends(command) == 0
        assert capsys.readouterr().err == "warning: only 4 cases\n"


def test_a_reader_that_closes_the_pipe_is_no_error(segpipe: Any, tmp_path: Path) -> None:
    command = f"{sys.executable} -m segpipe train conf=prostate --cfg | head -1"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert (run.stdout, run.stderr) == ("name: prostate\n", "")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["plan", "--help"], ["doctor"], ["train", "conf=prostate", "--cfg"]])
def test_a_closed_pipe_ends_any_command_quietly_with_141(words: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "segpipe", *words]
    run = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path, timeout=60)
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, "")


def test_the_module_and_the_script_are_the_same_program(segpipe: Any) -> None:
    run = segpipe("train", "conf=nope")
    assert run.returncode == 2
    assert run.stderr.startswith("error: conf=nope: no such choice")
