"""What it takes to forecast: room on the disk, seconds to the first forecast, memory.

environment   a wheel, and a virtual environment that holds nothing else
measure       processes that forecast once
__main__      all of it as a table, against what is aimed at
"""
