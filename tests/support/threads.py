"""Works that run at once."""

import threading
import time


def in_threads(*works):
    """Run each work in a thread of its own, all let go at once; fail if one raises or does not end."""
    gate = threading.Barrier(len(works))
    failures = []

    def guarded(work):
        try:
            gate.wait()
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    for thread in threads:
        thread.join(timeout=max(0.0, end - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    assert failures == []
