#!/usr/bin/env python3
"""A mesh on one machine: a control plane, the services `web` and `echo` with a dataplane each.

Shows a request go through without mTLS, refused once mTLS is on, and through again under a permission. Everything it
starts, files and processes, is gone when it ends.
"""

import argparse
import os
import pathlib
import secrets
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


class Port:
    def __init__(self, number, user, setting=None):
        self.number, self.user = number, user
        # The environment variable by which kuma-cp learns of another number.
        self.setting = setting

    def __str__(self):
        return str(self.number)


MADS = Port(5676, "kuma-cp (monitoring assignments)", "KUMA_MONITORING_ASSIGNMENT_SERVER_GRPC_PORT")
SDS = Port(5677, "kuma-cp (SDS)", "KUMA_SDS_SERVER_GRPC_PORT")
XDS = Port(5678, "kuma-cp (xDS)", "KUMA_XDS_SERVER_GRPC_PORT")
ADMIN = Port(5679, "kuma-cp (admin)", "KUMA_ADMIN_SERVER_LOCAL_PORT")
DIAGNOSTICS = Port(5680, "kuma-cp (diagnostics)", "KUMA_XDS_SERVER_DIAGNOSTICS_PORT")
API = Port(5681, "kuma-cp (HTTP API)", "KUMA_API_SERVER_PORT")
BOOTSTRAP = Port(5682, "kuma-cp (bootstrap)", "KUMA_BOOTSTRAP_SERVER_PORT")
ECHO_PORT = Port(9000, "the echo application")
ECHO_INBOUND = Port(10000, "the dataplane of echo")
WEB_INBOUND = Port(10100, "the dataplane of web")
WEB_OUTBOUND = Port(10001, "the dataplane of web")
PORTS = [MADS, SDS, XDS, ADMIN, DIAGNOSTICS, API, BOOTSTRAP, ECHO_PORT, ECHO_INBOUND, WEB_INBOUND, WEB_OUTBOUND]
# Web only calls others: nothing listens on the port of its application.
WEB_APP = 9100

MESH = """type: Mesh
name: default
mtls:
  enabled: {mtls}
  ca:
    builtin: {{}}
"""
ECHO = """type: Dataplane
mesh: default
name: echo-1
networking:
  inbound:
  - interface: 127.0.0.1:{inbound}:{application}
    tags:
      service: echo
"""
WEB = """type: Dataplane
mesh: default
name: web-1
networking:
  inbound:
  - interface: 127.0.0.1:{inbound}:{application}
    tags:
      service: web
  outbound:
  - interface: :{outbound}
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

    def start(self, name, *command, **options):
        log = open(self.work / f"{name}.log", "wb")
        # A session of its own: Ctrl-C reaches this script alone, which ends the others in order.
        process = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log, env=self.env, start_new_session=True, **options
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

    def kumactl(self, *arguments, **options):
        subprocess.run([BIN / "kumactl", *arguments], env=self.env, check=True, **options)

    def apply(self, document):
        self.kumactl("apply", "-f", "-", input=document.encode())

    def token(self, name):
        path = self.work / f"{name}.token"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            self.kumactl("generate", "dataplane-token", f"--dataplane={name}", stdout=file)
        return path

    def stop(self):
        # Dataplanes first, so that they can say goodbye; kuma-cp last.
        for name, process in reversed(self.processes):
            if process.poll() is None:
                # PostgreSQL: at once, without waiting for connections.
                process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        shutil.rmtree(self.work, ignore_errors=True)


class Postgres:
    """A server of the demo's own, on a free port, in the demo's folder; it answers on loopback alone."""

    def __init__(self, demo):
        find = subprocess.run([ROOT / "scripts" / "get-postgres.sh"], stdout=subprocess.PIPE, text=True)
        if find.returncode:
            fail("there is no PostgreSQL; see above")
        self.programs, self.folder = pathlib.Path(find.stdout.strip()), demo.work / "postgres"
        self.folder.mkdir()
        # PostgreSQL refuses to run as root.
        self.user = {}
        if os.geteuid() == 0:
            self.user = {"user": 65534, "group": 65534, "extra_groups": []}
            os.chown(self.folder, 65534, 65534)
            demo.work.chmod(0o711)
        self.password = secrets.token_urlsafe(16)
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if self.user:
            os.chown(password_file, 65534, 65534)
        password_file.chmod(0o600)
        data = self.folder / "data"
        self.command("initdb", "-D", data, "-U", "kuma", "-E", "UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256",
                     f"--pwfile={password_file}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        demo.start("postgres", self.programs / "postgres", "-D", data, "-p", self.port, "-k", self.folder,
                   "-c", "listen_addresses=127.0.0.1", **self.user)
        demo.wait("readiness of PostgreSQL", self.is_ready)
        self.command("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "kuma", "kuma")

    def command(self, program, *arguments):
        command = [str(part) for part in (self.programs / program, *arguments)]
        env = {"PGPASSWORD": self.password, "PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, env=env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              **self.user)
        if done.returncode:
            fail(f"{program} failed (exit code {done.returncode}):\n{done.stdout}")

    def is_ready(self):
        command = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command).returncode == 0

    def settings(self):
        return {
            "KUMA_STORE_POSTGRES_PORT": str(self.port),
            "KUMA_STORE_POSTGRES_USER": "kuma",
            "KUMA_STORE_POSTGRES_PASSWORD": self.password,
            "KUMA_STORE_POSTGRES_DB_NAME": "kuma",
        }


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_ports():
    taken = []
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port.number))
            except OSError:
                taken.append(f"  {port} for {port.user}")
    if taken:
        fail("the demo uses these ports, and something else listens on them (an earlier demo that was killed, "
             "perhaps; `ss -ltnp` shows what). `make demo PORTS=free` uses others:\n" + "\n".join(taken))


def choose_free_ports():
    probes = [socket.socket() for _ in PORTS]
    for port, probe in zip(PORTS, probes):
        probe.bind(("127.0.0.1", 0))
        port.number = probe.getsockname()[1]
    for probe in probes:
        probe.close()


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
        with urllib.request.urlopen(f"http://127.0.0.1:{DIAGNOSTICS}/ready", timeout=1) as response:
            return response.status == 200
    except OSError:
        return False


def build():
    """Returns the path of Envoy. It comes first: without it there is no need to wait for the compiler."""
    fetch = subprocess.run([ROOT / "scripts" / "get-envoy.sh"], stdout=subprocess.PIPE, text=True)
    if fetch.returncode:
        fail("there is no Envoy; see above")
    step("Building the programs (the first time takes some minutes, later runs seconds)")
    if subprocess.run(["make", "--no-print-directory", "build"], cwd=ROOT).returncode:
        fail("the build failed; see above")
    return fetch.stdout.strip()


def run(demo, envoy):
    demo.env["KUMA_DATAPLANE_RUNTIME_BINARY_PATH"] = envoy
    demo.env |= {port.setting: str(port) for port in PORTS if port.setting}
    if demo.env["KUMA_STORE_TYPE"] == "postgres":
        step("Starting a PostgreSQL of its own")
        demo.env |= Postgres(demo).settings()
    step(f"Starting the control plane with the store `{demo.env['KUMA_STORE_TYPE']}`")
    demo.start("kuma-cp", BIN / "kuma-cp", "run")
    demo.wait("readiness of kuma-cp", reachable)

    step("Starting the service echo, and a dataplane for echo and for web")
    demo.kumactl("config", "control-planes", "add", "--name=demo", f"--address=http://127.0.0.1:{API}",
                 stdout=subprocess.DEVNULL)
    demo.start("echo", BIN / "kuma-tcp-echo", "-port", ECHO_PORT)
    demo.apply(ECHO.format(inbound=ECHO_INBOUND, application=ECHO_PORT))
    demo.apply(WEB.format(inbound=WEB_INBOUND, application=WEB_APP, outbound=WEB_OUTBOUND))
    for name in ("echo-1", "web-1"):
        demo.start(name, BIN / "kuma-dp", "run", f"--name={name}", "--mesh=default",
                   f"--cp-address=http://127.0.0.1:{API}", f"--dataplane-token-file={demo.token(name)}")
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
    demo.kumactl("inspect", "dataplanes")
    kumactl = os.path.relpath(BIN / "kumactl")
    if API.number != 5681:
        kumactl += f" --config-file={demo.work}/.kumactl/config"
    print(f"""
{BOLD}The mesh is up.{RESET} Try, in another terminal:

  curl http://127.0.0.1:{WEB_OUTBOUND}/hello              {DIM}# web calls echo through both proxies{RESET}
  curl http://127.0.0.1:{ECHO_INBOUND}/                   {DIM}# plain text to echo's proxy: refused, TLS needed{RESET}
  {kumactl} inspect dataplanes
  {kumactl} get traffic-permissions -o yaml
  {kumactl} delete traffic-permission web-to-echo   {DIM}# then curl again: refused{RESET}
  curl http://127.0.0.1:{API}/meshes/default/dataplanes+insights

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
    arguments.add_argument("--store", choices=["memory", "file", "postgres"], default="memory",
                           help="where documents are kept")
    arguments.add_argument("--ports", choices=["default", "free"], default="default",
                           help="listen on the documented ports, or on free ones")
    options = arguments.parse_args()
    if options.ports == "free":
        choose_free_ports()
    check_ports()
    envoy = build()
    demo = Demo()
    demo.env["KUMA_STORE_TYPE"] = options.store
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
