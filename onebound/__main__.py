"""`python -m onebound` is the command `onebound`."""

from onebound.cli import main

if __name__ == "__main__":
    main(prog_name="onebound")
