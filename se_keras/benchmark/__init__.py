"""What SE costs: a network against its plain twin, engine by engine.

`worker` is the process that one network runs in, `timing` lets such processes take turns and
compares them; `runs` makes the table of runs and carries it out; `plots` draws what came out.
"""
