"""Attacks on the program, in files whose names are the headings of SECURITY.md.

This folder mirrors that page, not the tree: an attack is one file or one request, and goes through as many modules as
it gets. What a module does with a wrong file is tested beside that module. Larger and random ones are marked ``slow``.
"""
