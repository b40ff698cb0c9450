"""Many runs from one command: every job in a process of its own, what is finished left alone, one line of progress.

- :mod:`vem.sweep.plan`: which jobs a command means, written down before the first begins
- :mod:`vem.sweep.isolated`: one job in a child process, under any launcher
- :mod:`vem.sweep.stopping`: Ctrl-C and SIGTERM, told to the jobs of a launcher that would kill them
- :mod:`vem.sweep.progress`: the line on the terminal
- :mod:`vem.sweep.ending`: who is left when the launcher returns or breaks; the exit code
"""
