"""The parts of tools/load_test.py."""
