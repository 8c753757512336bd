"""What runs in a pool's own interpreter: the standard library only, Python 3.9 and newer.

boot.py            the first file a foreign interpreter runs
on_path/           what leads to it where there is nothing but the path of a worker
starter.py         the process that forks a pool's workers
starter_frames.py  what the supervisor and a starter say to each other
orphans.py         what a worker leaves to its starter
process.py         how a worker's process begins
leaving.py         how it ends, and a child that a command has forked
hello.py           what is said first, and the loop that a profile asks for
runtime.py         the loop of a worker: calls in, answers out
threads.py         the loop of one that runs several calls at a time
serving.py         what happens to one call
asking.py          what a command asks of the host, and tells it
streams.py         a stream: its credit, and how it is closed
outgoing.py        what is on its way out
waiting.py         waiting, and missing no signal meanwhile
vigil.py           waiting awake for what comes within moments
gil.py             whether there is a GIL, and what brought it back
calls.py           one call: arguments, the command, its answer
exceptions.py      what is told of an exception
fitting.py         errors that fit into a frame
loading.py         an adapter's commands
advice.py          what was meant by a name that is wrong
stacks.py          what every thread is at, told from outside
raising.py         raising in what a signal has interrupted
held_signals.py    what no handler of a signal may interrupt
spare_frames.py    room for the handler of a signal, wherever it comes
linux.py           what only Linux has
"""
