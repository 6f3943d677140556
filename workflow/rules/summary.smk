# The end of a run that failed, and the lock that a killed one leaves.

from bitlaw.lock import hold

if workflow.is_main_process:
    # Held until this process ends, however it ends.
    LOCK = hold(Path.cwd())


onerror:
    RUN.finish()
    for line in RUN.failures():
        print(line, file=sys.stderr)
