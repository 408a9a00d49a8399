"""The walkthrough: every command of docs/walkthrough.md is run, and what it prints is what the page shows.

``python -m tests.walkthrough`` writes the page anew from a run.
"""
