"""Carry out the runs of a study: on this machine, on Ray, on Slurm.

What other wings use:

job      `Job`: one run, with the jobs that must end before it; `Event`: what an engine reports;
         `Engine`: what carries out jobs
"""
