"""``pycomnet passwd``: the users of a password file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram

EPILOG = """\b
Examples:
  pycomnet passwd /etc/pycomnet/passwd alice
  pycomnet passwd --stdin /etc/pycomnet/passwd alice < secret.txt
  pycomnet passwd --verify /etc/pycomnet/passwd alice
  pycomnet passwd --delete /etc/pycomnet/passwd alice

The file has a line user:hash for each user, as Apache's htpasswd makes them. It is created, with
mode 0600, if there is none, and replaced as a whole. Comments, owner and group stay; the group can
still read it if it could before, and others can't. Servers that use it read it again when it has
changed.

\b
Exit status:
  1          the file or the password is not valid, there is no such user, or --verify: it is wrong
  2          a mistake on the command line
"""


@click.command("passwd", epilog=EPILOG, short_help="Change the users of a password file.")
@click.option("--verify", is_flag=True, help="Only say whether the password is the user's.")
@click.option("--delete", is_flag=True, help="Remove the user.")
@click.option(
    "--scheme",
    type=click.Choice(["bcrypt", "argon2"]),
    default="bcrypt",
    show_default=True,
    help="How the new password is hashed.",
)
@click.option("--stdin", is_flag=True, help="Read the password from standard input, one line.")
@click.argument("file")
@click.argument("user")
def passwd(verify: bool, delete: bool, scheme: str, stdin: bool, file: str, user: str) -> None:
    """Give USER a password in FILE, or a new one."""
    from pycomnet.cli.program import run_command
    from pycomnet.errors import AccessConfigError
    from pycomnet.ext.access import passwordedit

    if verify and delete:
        raise click.UsageError("--verify or --delete, not both")

    def change(password: str) -> str:
        if verify:
            if not passwordedit.verify_password(file, user, password):
                raise click.ClickException("the password is wrong")
            return "the password is right"
        new = passwordedit.set_password(file, user, password, scheme)
        return f"{user} is {'added to' if new else 'changed in'} {file}"

    async def ask_and_change(program: CommandProgram) -> int:
        program.ending = ""
        said = change(await ask_for_password(program, user, confirm=not verify))
        program.print_text(f"{said}\n")
        return 0

    try:
        passwordedit.check_name(user)
        if delete:
            passwordedit.delete_user(file, user)
            click.echo(f"{user} is removed from {file}")
        elif stdin:
            click.echo(change(sys.stdin.readline().removesuffix("\n").removesuffix("\r")))
        else:
            run_command(ask_and_change)
    except AccessConfigError as problem:
        raise click.ClickException(str(problem)) from None
    except UnicodeDecodeError:
        raise click.ClickException("a password is text in UTF-8") from None


async def ask_for_password(program: CommandProgram, user: str, confirm: bool) -> str:
    """Ask for a password at the terminal.

    :param confirm: whether it is asked for twice, until both are the same.
    :raises ClickException: there is no terminal, or nothing was entered.
    """
    from pycomnet.cli.passwordprompt import ask_secret

    reactor: Any = program.reactor
    try:
        while True:
            found = await ask_secret(f"Password of {user}: ", reactor)
            if not confirm or found == await ask_secret("The same again: ", reactor):
                return found
            program.say("the two are not the same")
    except EOFError:
        raise click.ClickException("none was entered") from None
    except OSError:
        raise click.ClickException(
            "there is no terminal to ask for the password: --stdin reads it from standard input"
        ) from None
