"""What the tables were measured on."""
import os
import platform
import subprocess


def field(path, key):
    with open(path) as f:
        for line in f:
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    return "?"


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        return (done.stdout or done.stderr).splitlines()[0].strip()
    except (OSError, IndexError):
        return "none"


def facts():
    cpu = field("/proc/cpuinfo", "model name")
    mhz = field("/proc/cpuinfo", "cpu MHz")
    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) // 1024 // 1024
    load = os.getloadavg()[0]
    return (f"{os.cpu_count()} x {cpu} ({float(mhz):.0f} MHz), {memory} GiB, "
            f"Linux {platform.release().split('-')[0]}, "
            f"{first_line('cc', '--version')}, "
            f"{first_line('rustc', '--version')}; load {load:.2f}")
