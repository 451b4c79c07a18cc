"""What `--help` says beyond a list of options: tasks, groups and the settings that are wanted most."""

from __future__ import annotations

import typing

from typer.core import TyperCommand, TyperGroup

_GROUPS = ("network", "augment", "training", "plan", "dataset", "inference")

_USEFUL = (
    ("dataset.root=DIR", "folder of the data set, or a manifest"),
    ("dataset.labels=NAME", "name of the label folder under it"),
    ("run_dir=DIR", "folder of the run (default: runs/NAME)"),
    ("training.max_minutes=20", "time for the whole training"),
    ("training.max_steps=2000", "steps instead of time; repeatable bit for bit on a CPU"),
    ("training.resume=auto", "go on where an earlier run in run_dir stopped"),
    ("training.init=runs/old", "begin with the weights of an earlier run or model.ts"),
    ("seed=7", "everything random follows from it"),
    ("plan.dims=2", "2 slice by slice, 3 whole volumes"),
    ("plan.patch_size=[64,64,32]", "voxels along x, y, z; on pictures [rows, columns]"),
    ("dataset.split=folds dataset.fold=0", "k folds instead of a random fifth"),
)


_LONGEST = 200
"""Characters of a command's first sentence."""


class CommandList(TyperGroup):
    """The program, or a group of its commands; its help tells the first sentence of each, on as many lines as that takes."""

    def format_commands(self, ctx: typing.Any, formatter: typing.Any) -> None:
        """Write the commands in their order."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(_LONGEST)) for name, command in commands if command is not None])


class SettingsCommand(TyperCommand):
    """A command that takes SETTING=VALUE words; its help lists them from the shipped files."""

    def collect_usage_pieces(self, ctx: typing.Any) -> list[str]:
        """The first line of the help, without the brackets of a repeated argument."""
        return ["[OPTIONS]", "[SETTING=VALUE]..."]

    def format_epilog(self, ctx: typing.Any, formatter: typing.Any) -> None:
        """Write the lists after the options."""
        from segpipe.config.folder import PRIMARY, TASKS, conf_folder, describe, groups

        super().format_epilog(ctx, formatter)
        with formatter.section("Tasks"):
            own = ("conf=./mine.yaml", "your own file; `defaults: [/conf/prostate, _self_]` builds on a shipped one")
            formatter.write_dl([*((f"conf={name}", text) for name, text in describe(TASKS).items()), own])
        with formatter.section("Groups"):
            formatter.write_dl([(group, ", ".join(f"{group}={name}" for name in groups()[group])) for group in _GROUPS])
        with formatter.section("Settings"):
            formatter.write_dl([*_USEFUL, ("all of them", str(conf_folder() / f"{PRIMARY}.yaml"))])


class NodeCommand(TyperCommand):
    """`listen`, likewise."""

    def collect_usage_pieces(self, ctx: typing.Any) -> list[str]:
        """The first line of the help."""
        return ["[OPTIONS]", "MODEL...", "OUT"]


class PathsCommand(TyperCommand):
    """`predict`, whose paths have an order that a list cannot say."""

    def collect_usage_pieces(self, ctx: typing.Any) -> list[str]:
        """The first line of the help."""
        return ["[OPTIONS]", "MODEL...", "IN", "OUT"]
