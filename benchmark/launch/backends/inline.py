"""Runs in this process, one after the other."""

from __future__ import annotations

from benchmark.errors import InputError, LtbenchError, RunHeld, RunInterrupted
from benchmark.launch.backend import BACKENDS, Backend, Launch
from benchmark.launch.report import Report, RunReport


@BACKENDS.register("inline")
class Inline(Backend):
    about = "in this process"

    def launch(self, launch: Launch) -> Report:
        """Carry out the runs one after the other; each is decided on when the one before it has ended.

        A run that is launched alone raises its error. So does the first of several for an InputError, which most often
        concerns all of them.
        """
        from benchmark.running.execute import execute, summary
        from benchmark.running.rerun import decide
        from benchmark.store.folder import RunFolder

        runs = []
        for number, plan in enumerate(launch.plans, 1):
            if len(launch.plans) > 1:
                launch.reporter.line(f"run {number} of {len(launch.plans)}")
            path = launch.results / "runs" / plan.folder_name
            folder = RunFolder(path)
            try:
                record = execute(plan, decide(plan, folder, launch.rerun), folder, launch.device, launch.reporter)
                assert record is not None  # only one of several processes gets none
                runs.append(RunReport(path, "done", summary(record.metrics)))
            except RunInterrupted:
                raise
            except Exception as error:
                if len(launch.plans) == 1 or (number == 1 and isinstance(error, InputError)):
                    raise
                kind = "" if isinstance(error, LtbenchError) else f"{type(error).__name__}: "
                runs.append(RunReport(path, "held" if isinstance(error, RunHeld) else "failed", f"{kind}{error}"))
                launch.reporter.line(f"{runs[-1].state}: {runs[-1].message}")
        return Report(launch.results, runs)
