"""Large values: files in shared memory instead of bytes in frames, and arrays.

It runs in workers, in the supervisor and in the harness: the standard library only (and NumPy where
it is), Python 3.9 and newer. SPEC section 17 says who writes, reads and removes what.

files.py    writing, reading and removing the files of a run's folder
pages.py    reading into bytes that lie in large pages
arrays.py   tensors as NumPy arrays, or most as memoryviews where there is no NumPy
"""
