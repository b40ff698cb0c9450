"""Loaded by the server that a sweep's jobs are forked from, it lets them draw nothing: that is most of a small run."""

from vem.cli import train

train.draw_run = lambda directory: []
