"""`python -m chronos_export`: the command line."""

from chronos_export.cli.main import main

if __name__ == "__main__":
    main()
