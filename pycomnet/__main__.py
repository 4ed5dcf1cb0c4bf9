"""``python -m pycomnet`` is the ``pycomnet`` command."""

from pycomnet.cli import main

if __name__ == "__main__":
    main()
