"""Do one task of Huey's and end, as a worker that is replaced after each task does: python huey_worker.py."""

from huey_tasks import huey

task = huey.dequeue()
if task is None:
    raise SystemExit("nothing to do")
huey.execute(task)
