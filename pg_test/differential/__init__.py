"""Differential test: the same rows and the same SQL on a heap table and on a Basalt datasource.

`python -m pg_test.differential --queries 2000 --seed 1 --dsn ...`. Everything follows from the seed. On a
difference the query and then the data are shrunk, and a SQL script that shows it is printed.
"""
