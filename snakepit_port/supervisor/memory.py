"""How much memory a process has to itself."""

from __future__ import annotations


def private_bytes(pid: int) -> int | None:
    """Bytes that would be free if the process went: without the pages a forked worker shares.

    None where the system does not say (only Linux does), or when the process is gone.
    """
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                # proc(5): Private_Clean, Private_Dirty and Private_Hugetlb, in kB.
                if line.startswith("Private_"):
                    total += int(line.split()[1]) * 1024
    except OSError:
        return None
    return total
