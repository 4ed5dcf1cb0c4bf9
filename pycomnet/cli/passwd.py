"""``pycomnet passwd``: the users of a password file."""

from __future__ import annotations

import sys

import click

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
    from pycomnet.errors import AccessConfigError
    from pycomnet.ext.access import passwordedit

    if verify and delete:
        raise click.UsageError("--verify or --delete, not both")
    try:
        passwordedit.check_name(user)
        if delete:
            passwordedit.delete_user(file, user)
            click.echo(f"{user} is removed from {file}")
            return
        password = read_password(user, stdin, confirm=not verify)
        if verify:
            if not passwordedit.verify_password(file, user, password):
                raise click.ClickException("the password is wrong")
            click.echo("the password is right")
            return
        new = passwordedit.set_password(file, user, password, scheme)
        click.echo(f"{user} is {'added to' if new else 'changed in'} {file}")
    except AccessConfigError as problem:
        raise click.ClickException(str(problem)) from None


def read_password(user: str, stdin: bool, confirm: bool) -> str:
    """Read a password from standard input, or ask for it at the terminal."""
    if stdin:
        line = sys.stdin.readline()
        return line.removesuffix("\n").removesuffix("\r")
    found = click.prompt(f"Password of {user}", hide_input=True, confirmation_prompt=confirm)
    return str(found)
