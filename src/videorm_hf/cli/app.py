"""The frame of `videorm` and `videoprefer`: what goes wrong is said in words, with the traceback on request."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from videorm_hf.videoprefer.bad_data import BadDataError

# What a user can mend; anything else is a fault of ours, with its traceback.
USER_ERRORS = (ValueError, TypeError, OSError, ImportError)


def show_error(error: Exception, program: str, command: str) -> int:
    """Say on a terminal what went wrong.

    Args:
        error (`Exception`): One of `USER_ERRORS`.
        program (`str`): What was called.
        command (`str`): Its sub-command.

    Returns:
        `int`: the exit code: 1 for bad data, 2 for all else.
    """
    message = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        message = f"{error.strerror}: {error.filename}"
    typer.secho(f"Error: {message}", fg="red", err=True)
    typer.echo(f"`{program} --traceback {command} ...` shows where it arose.", err=True)
    return 1 if isinstance(error, BadDataError) else 2


class CommandGroup(TyperGroup):
    """Commands whose errors end in two lines and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # click's Context, which newer Typers carry within themselves
        """Run a command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read the output has seen enough
            raise
        except USER_ERRORS as error:
            if ctx.params["traceback"]:
                raise
            raise typer.Exit(show_error(error, str(ctx.info_name), str(ctx.invoked_subcommand))) from error


def make_app(description: str, *commands: Callable[..., None]) -> typer.Typer:
    """Build a command with sub-commands.

    Args:
        description (`str`): Shown by `--help`.
        *commands (`Callable`): Sub-commands, each named by its function.

    Returns:
        `typer.Typer`
    """
    app = typer.Typer(cls=CommandGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback(help=description)
    def main(traceback: bool = typer.Option(False, "--traceback", help="Show where an error arose.")) -> None:
        pass

    for command in commands:
        app.command()(command)
    return app
