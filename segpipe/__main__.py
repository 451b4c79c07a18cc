"""`python -m segpipe` is the same program as `segpipe`."""

from segpipe.cli import main

if __name__ == "__main__":
    main()
