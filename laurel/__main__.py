"""`python -m laurel`: the command, where its script is not on the path."""

from laurel.cli import main

if __name__ == "__main__":
    main()
