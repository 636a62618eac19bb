"""Programs for working on Iris; not part of the installed package."""
