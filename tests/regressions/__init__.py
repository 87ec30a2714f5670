"""What somebody met, through the command line, one file a subject.

Nothing here imports the product: `PAGEFERRY_CHECKOUT=PATH pytest tests/regressions` runs the same
commands with the code and the `.venv` of another checkout, such as a release from before a fault
was mended, where each of these tests has to fail by what it asserts.
"""
