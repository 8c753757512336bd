"""Every decision about a pool, as a state machine without I/O, clock or randomness of its own.

`Machine` is fed with events (a call arrived, a worker is ready, an answer came, a worker exited,
time is now T) and returns effects (send this call to that worker, answer that call, start a worker,
stop one), in the order in which they are to be carried out. The words and the table of states stand
in `protocol/SPEC.md`, section 14.

    call.py      a call and where it is
    worker.py    a worker as the pool sees it
    effects.py   what the machine may ask for
    timers.py    what is due when
    speed.py     which commands are fast enough to send ahead
    backoff.py   how long to wait before trying again
    record.py    what the parts of a machine share: its effects, timers and counts
    queue.py     the calls that wait
    roster.py    the workers, and which of them takes the next call
    dispatch.py  which call goes to which worker, and when
    sessions.py  ids that tie calls to a worker
    scaling.py   how many workers there should be
    recycling.py which workers are replaced or let go, and when
    draining.py  how a worker goes in good order
    memory.py    which workers have more memory than they may
    recall.py    what is taken back from a worker that takes its time
    returns.py   what becomes of calls that come back
    withdrawal.py what ends a call early, and whether its worker lets go of it
    reloading.py how far a pool is with new settings
    starting.py  when workers are started, and attempts that fail
    streams.py   which chunks are wanted, and where credit goes
    health.py    which workers have shown of late that they are well
    standing.py  what state the pool is in, and what it tells calls that it does not take
    stopping.py  how it ends
    machine.py   the machine: what happens, and what follows from it
"""

from snakepit_port.pool.call import Call, CallState, Session
from snakepit_port.pool.machine import Machine
from snakepit_port.pool.standing import PoolState
from snakepit_port.pool.worker import Worker, WorkerState

__all__ = ["Call", "CallState", "Machine", "PoolState", "Session", "Worker", "WorkerState"]
