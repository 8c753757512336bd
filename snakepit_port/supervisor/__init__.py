"""The Trio shell: it carries out what the pools decide.

serve.py           the process: from its first frame to its exit status
stdio.py           the descriptors on which the host is
signals.py         what ends it from outside, and tells of a child's end
greeting.py        how the host and it greet each other
pump.py            one task that waits for every descriptor
link.py            frames over non-blocking descriptors
configuration.py   the configuration that a host asks for
host.py            what the host says, and what is said to it
controls.py        what it asks of the supervisor itself
balance.py         each side is read from as fast as the other takes it
runner.py          a pool's processes: carries out the effects of its machine
listener.py        what its workers say, and what becomes of it
source.py          where a pool's workers come from: its settings as they see them, and a starter
pools.py           the pools: which run, which leave, what a reload makes of them
asides.py          what commands ask of the host, and tell it
tools.py           who waits for what the host was asked
outside.py         what a runner needs of the host's side
worker_process.py  a worker's process: its descriptors, and why it went
starter.py         the process that forks a source's workers
replies.py         answers that it makes itself, as frames that the host accepts
gathering.py       the answer of a control call that several workers have a part in
stacks.py          the stacks of workers' threads
output.py          what workers print, line by line
run.py             what marks a run, and what to remove of a dead one
alive.py           which runs are alive, and what they are like, told from outside
ledger.py          how many calls each worker has started, in shared memory
shm.py             the folder in shared memory through which large values travel
memory.py          measuring the memory of workers, beside everything else
"""
