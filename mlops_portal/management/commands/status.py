import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from mlops_portal.stack.programs import PROGRAMS
from mlops_portal.stack.supervisor import Down, Process, Supervisor


class Command(BaseCommand):
    help = "Every process with its state, age and memory. Exits 1 when one does not run."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        client = Supervisor(settings.STACK.supervisor_socket)
        try:
            processes = client.processes()
        except Down:
            self.stdout.write("Nothing runs. Start it with ./portal up")
            sys.exit(1)
        what = {program.name: program.what for program in PROGRAMS}
        head = f"{'process':<24}{'state':<10}{'pid':>8}{'age':>10}{'memory':>10}  what"
        self.stdout.write(head)
        total = 0
        for process in processes:
            used = tree_memory(process.pid) if process.pid else 0
            total += used
            role = what.get(process.name, "model replica")
            self.stdout.write(
                f"{process.name:<24}{process.state.lower():<10}{process.pid or '':>8}"
                f"{age(process):>10}{megabytes(used):>10}  {role}"
            )
        own = tree_memory(client.pid(), children=False)
        pid = client.pid()
        self.stdout.write(f"{'supervisor':<24}{'running':<10}{pid:>8}{'':>10}{megabytes(own):>10}")
        self.stdout.write(
            f"{'in all':<52}{megabytes(total + own):>10}  (shared pages counted once)"
        )
        if any(process.state != "RUNNING" for process in processes):
            sys.exit(1)


def age(process: Process) -> str:
    if not process.pid:
        return ""
    seconds = int(time.time()) - process.since
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def megabytes(amount: int) -> str:
    return f"{amount / 2**20:.0f} MiB"


def tree_memory(pid: int, *, children: bool = True) -> int:
    """Bytes of a process and its children, each shared page divided among its users (PSS)."""
    used = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                used = int(line.split()[1]) * 1024
        tasks = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, ValueError):
        return used
    return used + (sum(tree_memory(int(child)) for child in tasks) if children else 0)
