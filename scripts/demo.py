#!/usr/bin/env python3
"""A mesh on one machine: a control plane on the memory store, the services `web` and `echo` with a dataplane each.

Shows a request go through without mTLS, refused once mTLS is on, and through again under a permission. Everything it
starts, files and processes, is gone when it ends.
"""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "target" / "release"
ECHO_PORT, ECHO_INBOUND, WEB_APP, WEB_INBOUND, WEB_OUTBOUND = 9000, 10000, 9100, 10100, 10001
PORTS = {
    5676: "kuma-cp (monitoring assignments)", 5677: "kuma-cp (SDS)", 5678: "kuma-cp (xDS)",
    5679: "kuma-cp (admin)", 5680: "kuma-cp (diagnostics)",
    5681: "kuma-cp (HTTP API)", 5682: "kuma-cp (bootstrap)",
    ECHO_PORT: "the echo application", ECHO_INBOUND: "the dataplane of echo",
    WEB_INBOUND: "the dataplane of web", WEB_OUTBOUND: "the dataplane of web",
}

MESH = """type: Mesh
name: default
mtls:
  enabled: {mtls}
  ca:
    builtin: {{}}
"""
ECHO = f"""type: Dataplane
mesh: default
name: echo-1
networking:
  inbound:
  - interface: 127.0.0.1:{ECHO_INBOUND}:{ECHO_PORT}
    tags:
      service: echo
"""
WEB = f"""type: Dataplane
mesh: default
name: web-1
networking:
  inbound:
  - interface: 127.0.0.1:{WEB_INBOUND}:{WEB_APP}
    tags:
      service: web
  outbound:
  - interface: :{WEB_OUTBOUND}
    service: echo
"""
PERMISSION = """type: TrafficPermission
mesh: default
name: web-to-echo
sources:
- match:
    service: web
destinations:
- match:
    service: echo
"""

BOLD, GREEN, DIM, RESET = ("\033[1m", "\033[32m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("",) * 4


def step(text):
    print(f"{BOLD}==>{RESET} {text}", flush=True)


def fail(text):
    print(f"error: {text}", file=sys.stderr, flush=True)
    raise SystemExit(1)


class Demo:
    def __init__(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="kuma-demo-"))
        self.processes = []
        mine = {"HOME": str(self.work), "TMPDIR": str(self.work), "KUMA_GENERAL_WORK_DIR": str(self.work / "state")}
        # What the user has set for other control planes must not reach this one.
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("KUMA_")} | mine

    def start(self, name, *command):
        log = open(self.work / f"{name}.log", "wb")
        # A session of its own: Ctrl-C reaches this script alone, which ends the others in order.
        process = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log, env=self.env, start_new_session=True
        )
        self.processes.append((name, process))

    def check(self):
        for name, process in self.processes:
            if process.poll() is not None:
                log = (self.work / f"{name}.log").read_text(errors="replace")
                fail(f"{name} ended unexpectedly (exit code {process.returncode}):\n{log[-3000:]}")

    def wait(self, what, condition, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            if condition():
                return
            time.sleep(0.05)
        fail(f"{what} did not happen within {seconds} s; the logs:\n" + self.logs())

    def logs(self):
        return "\n".join(
            f"--- {name}\n" + (self.work / f"{name}.log").read_text(errors="replace")[-2000:]
            for name, _ in self.processes
        )

    def apply(self, document):
        subprocess.run([BIN / "kumactl", "apply", "-f", "-"], input=document.encode(), env=self.env, check=True)

    def token(self, name):
        path = self.work / f"{name}.token"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            command = [BIN / "kumactl", "generate", "dataplane-token", f"--dataplane={name}"]
            subprocess.run(command, stdout=file, env=self.env, check=True)
        return path

    def stop(self):
        # Dataplanes first, so that they can say goodbye; kuma-cp last.
        for _, process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        shutil.rmtree(self.work, ignore_errors=True)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_ports():
    taken = []
    for port, user in PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(f"  {port} for {user}")
    if taken:
        fail("the demo needs these ports, and something else listens on them (an earlier demo that was killed, "
             "perhaps; `ss -ltnp` shows what):\n" + "\n".join(taken))


def request():
    """The body that web's outbound answers with, or None if the connection is refused or reset."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{WEB_OUTBOUND}/hello", timeout=2) as response:
            return response.read().decode()
    except (urllib.error.URLError, OSError, ValueError):
        return None
    except Exception:  # a half answer of a connection that was cut
        return None


def reachable():
    try:
        with urllib.request.urlopen("http://127.0.0.1:5680/ready", timeout=1) as response:
            return response.status == 200
    except OSError:
        return False


def build():
    step("Building the programs (the first time takes some minutes, later runs seconds)")
    packages = ["kuma-cp", "kuma-dp", "kumactl", "kuma-tcp-echo"]
    flags = [flag for package in packages for flag in ("-p", package)]
    if subprocess.run(["cargo", "build", "--release", "--locked", *flags], cwd=ROOT).returncode:
        fail("the build failed; see above")
    fetch = subprocess.run([ROOT / "scripts" / "get-envoy.sh"], check=True, stdout=subprocess.PIPE, text=True)
    return fetch.stdout.strip()


def run(demo, envoy):
    demo.env["KUMA_DATAPLANE_RUNTIME_BINARY_PATH"] = envoy
    step(f"Starting the control plane with the store `{demo.env['KUMA_STORE_TYPE']}`")
    demo.start("kuma-cp", BIN / "kuma-cp", "run")
    demo.wait("readiness of kuma-cp", reachable)

    step("Starting the service echo, and a dataplane for echo and for web")
    demo.start("echo", BIN / "kuma-tcp-echo", "-port", ECHO_PORT)
    demo.apply(ECHO)
    demo.apply(WEB)
    for name in ("echo-1", "web-1"):
        demo.start(name, BIN / "kuma-dp", "run", f"--name={name}", "--mesh=default",
                   "--cp-address=http://127.0.0.1:5681", f"--dataplane-token-file={demo.token(name)}")
    demo.wait("the first request through both proxies", lambda: request() is not None)
    print(f"    {GREEN}web -> echo answers{RESET} {DIM}(no mTLS yet: everybody may talk to everybody){RESET}")

    step("Turning mTLS on: without a permission nobody may talk")
    demo.apply(MESH.format(mtls="true"))
    demo.wait("the request being refused", lambda: request() is None)
    print(f"    {GREEN}web -> echo is refused{RESET}")

    step("Applying a TrafficPermission from web to echo")
    demo.apply(PERMISSION)
    demo.wait("the permitted request", lambda: request() is not None)
    print(f"    {GREEN}web -> echo answers, under mTLS:{RESET}")
    for line in request().splitlines()[:3]:
        print(f"      {DIM}{line}{RESET}")

    print()
    subprocess.run([BIN / "kumactl", "inspect", "dataplanes"], env=demo.env, check=True)
    kumactl = os.path.relpath(BIN / "kumactl")
    print(f"""
{BOLD}The mesh is up.{RESET} Try, in another terminal:

  curl http://127.0.0.1:{WEB_OUTBOUND}/hello              {DIM}# web calls echo through both proxies{RESET}
  curl http://127.0.0.1:{ECHO_INBOUND}/                   {DIM}# plain text to echo's proxy: refused, TLS needed{RESET}
  {kumactl} inspect dataplanes
  {kumactl} get traffic-permissions -o yaml
  {kumactl} delete traffic-permission web-to-echo   {DIM}# then curl again: refused{RESET}
  curl http://127.0.0.1:5681/meshes/default/dataplanes+insights

Logs: {demo.work}
Ctrl-C ends the demo and removes everything it made.""", flush=True)
    while True:
        time.sleep(0.5)
        demo.check()


def main():
    # Also where the shell that started us has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit(0))
    arguments = argparse.ArgumentParser(description="Two services under mTLS on this machine")
    arguments.add_argument("--store", choices=["memory", "file"], default="memory", help="where documents are kept")
    store = arguments.parse_args().store
    check_ports()
    envoy = build()
    demo = Demo()
    demo.env["KUMA_STORE_TYPE"] = store
    try:
        run(demo, envoy)
    except KeyboardInterrupt:
        print("\nStopping ...", flush=True)
    except subprocess.CalledProcessError as error:
        fail(f"{' '.join(map(str, error.cmd))} failed (exit code {error.returncode}); the logs:\n" + demo.logs())
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        demo.stop()


if __name__ == "__main__":
    main()
