"""The commands of docs/troubleshooting.md against our scaler, as they stand there: grpcurl, curl, openssl, the scaler's own.

Each surroundings that the document names has a scaler of its own, with a broker behind all of them. Certificates are
made by the commands of docs/security.md. What is broken on the way (config file, secret, certificates, reads) is there
for the lines of the log that the document shows.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.request

import documented
from programs import Failed, await_state, expect, started

SERVICE = "externalscaler.ExternalScaler"
CONFIG = """\
connections:
  orders:
    allowedNamespaces: [shop]
    connectionStringFile: {folder}/orders.txt
profiles:
  gold: {policy: weighted, weights: "active=1,scheduled=0.2"}
"""
WRONG_CONFIG = "profiles:\n  gold: {policy: golden}\n"
# What `scaler check` is shown with: something wrong in most lines.
RECEIVER = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: receiver, namespace: shop}
spec:
  scaleTargetRef: {name: receiver}
  triggers:
    - type: external
      metricType: Value
      metadata:
        scalerAddress: servicebus-scaler.autoscale-demo.svc.cluster.local
        queueName: orders
        messagecount: "10"
        activationMessageCount: "1"
        policy: weighted
        connectionRef: billing
"""
TLS = ["--tls-cert", "server.crt", "--tls-key", "server.key"]
# Surroundings by the names that the document gives them: flags of the scaler, and a fault of the broker.
STATES = {
    "plain": ([], None),
    "tls": (TLS, None),
    "mtls": ([*TLS, "--tls-client-ca", "ca.crt"], None),
    "throttled": ([], "throttle=30s,plane=administration"),
}
# Commands that are run, and those that need what is not here.
PROGRAMS = {"grpcurl": True, "curl": True, "scaler": True, "openssl": True, "kubectl": False}
MESSAGES = 12


class Lab:
    """A folder with all that the document's commands name, and a broker."""

    def __init__(self, arguments, folder, broker):
        self.arguments = arguments
        self.folder = pathlib.Path(folder)
        self.broker = broker
        self.repository = pathlib.Path(arguments.troubleshooting).resolve().parent.parent
        self.document = pathlib.Path(arguments.troubleshooting).read_text(encoding="utf-8")
        self.connection_string = broker["connectionString"]
        self.logs = []
        self.ran = []

    def prepare(self):
        for name in ("bash", "curl", "openssl"):
            if shutil.which(name) is None:
                raise Failed(f"{name} is missing: the commands of the document need it")
        (self.folder / "bin").mkdir()
        for name in ("grpcurl", "scaler"):
            (self.folder / "bin" / name).symlink_to(pathlib.Path(getattr(self.arguments, name)).resolve())
        (self.folder / "deploy").symlink_to(self.repository / "deploy")
        self.config = CONFIG.replace("{folder}", str(self.folder))
        self.write("config.yaml", self.config)
        self.write("orders.txt", self.connection_string)
        self.write("receiver.yaml", RECEIVER)
        security = (self.repository / "docs/security.md").read_text(encoding="utf-8")
        for block in documented.blocks(security):
            openssl = [command for command in block.commands if command.text.startswith("openssl ")]
            self.run(documented.Block("plain", openssl), {})
        for name in ("ca.crt", "server.crt", "server.key", "client.crt", "client.key"):
            expect((self.folder / name).exists(), True, f"{name}, made by the commands of docs/security.md")

    def write(self, name, text):
        """Writes a file as a whole: a scaler may look at it at any moment."""
        new = self.folder / f".{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self.folder / name)

    def run(self, block, replaced):
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "SERVICEBUS_CONNECTION_STR": self.connection_string,
        }
        self.ran += documented.run(block, PROGRAMS, environment, self.folder, replaced)

    @contextlib.contextmanager
    def scaler(self, state):
        """A scaler in these surroundings; gives its ready line and its log."""
        if state not in STATES:
            raise Failed(f"the document names surroundings that are not known here: {state}")
        flags, fault = STATES[state]
        log = self.folder / f"scaler-{len(self.logs)}.log"
        self.logs.append(log)
        command = [os.path.abspath(self.arguments.scaler), "serve", "--listen", "127.0.0.1:0", "--config", "config.yaml"]
        with started(*command, *flags, folder=self.folder, log=log) as ready:
            if fault:
                self.fault(fault)
            try:
                yield ready, log
            finally:
                if fault:
                    self.fault(None)

    def fault(self, text):
        """Adds a fault to the broker, or removes all."""
        url = f"http://{self.broker['listen'][0]}/$faults"
        request = urllib.request.Request(url, data=text and text.encode(), method="POST" if text else "DELETE")
        with urllib.request.urlopen(request, timeout=10) as answer:
            expect(answer.status, 201 if text else 200, f"fault {text}")

    def ask(self, ready, **metadata):
        """Whether `IsActive` is answered."""
        reference = {"name": "receiver", "namespace": "shop", "scalerMetadata": metadata}
        done = subprocess.run(
            [self.arguments.grpcurl, "-plaintext", "-d", json.dumps(reference), ready["listen"][0], f"{SERVICE}/IsActive"],
            capture_output=True, text=True, timeout=30, check=False,
        )
        return done.returncode == 0

    def logged(self):
        return "".join(log.read_text(encoding="utf-8", errors="replace") for log in self.logs)


def await_log(log, text, meanwhile=lambda: None):
    def is_there():
        meanwhile()
        return text in log.read_text(encoding="utf-8", errors="replace")

    await_state(is_there, True, f"{text!r} in the log", seconds=30)


def the_commands_print_what_is_shown(lab):
    for block in documented.blocks(lab.document):
        with lab.scaler(block.state) as (ready, _log):
            ports = {"localhost:6000": ready["listen"][0], "localhost:8080": ready["admin"], "localhost:8081": ready["local"]}
            # /explain and /metrics speak of calls made before.
            if block.state == "plain":
                first = {"queueName": "orders", "messageCount": "5", "connectionRef": "orders"}
                await_state(lambda ready=ready, first=first: lab.ask(ready, **first), True, "a first call is answered")
            lab.run(block, ports)
    for what in ("-plaintext", "-cacert ca.crt", "-cert client.crt", "/explain?", "/metrics", "scaler check", "scaler explain"):
        expect(any(what in command for command in lab.ran), True, f"a command of the document with {what}")


def the_log_says_what_is_shown(lab):
    with lab.scaler("plain") as (ready, log):
        orders = {"queueName": "orders", "connectionRef": "orders", "cacheTtl": "1s"}
        lab.ask(ready, **orders, messagecount="10")
        lab.fault("status=500")
        await_log(log, "reads fail", meanwhile=lambda: lab.ask(ready, **orders))
        lab.fault(None)
        await_log(log, "reads succeed again", meanwhile=lambda: lab.ask(ready, **orders))
        lab.write("config.yaml", WRONG_CONFIG)
        await_log(log, "the config file is refused")
        lab.write("config.yaml", lab.config + "cacheTtlSeconds: 4\n")
        await_log(log, "the config file changed")
        lab.write("orders.txt", "Endpoint=nowhere")
        await_log(log, "a credential cannot be used")
        lab.write("orders.txt", lab.connection_string + "EntityPath=orders")
        await_log(log, "the credential of a connection changed")
    with lab.scaler("mtls") as (_ready, log):
        lab.write("server.crt", "no certificate")
        await_log(log, "the TLS files are refused")
    actual = lab.logged().splitlines()
    missing = [line for line in documented.log_lines(lab.document) if not any(documented.is_like(line, said) for said in actual)]
    expect(missing, [], "lines of the document that no scaler logged")


def what_is_not_shown_is_noticed(lab):
    for text in ("$ curl -s localhost:8080/livez\nsomething else\n", "$ telnet localhost\n", "$ scaler check none.yaml\n"):
        block = documented.Block("plain", list(documented.commands(text)))
        with lab.scaler("plain") as (ready, _log):
            try:
                lab.run(block, {"localhost:8080": ready["admin"]})
            except Failed:
                continue
        raise Failed(f"nothing was noticed: {text!r}")


@contextlib.contextmanager
def checks(arguments):
    """The checks, with all that they need; for `run_checks`."""
    broker = started(
        arguments.broker, "--listen", "127.0.0.1:0", "--queue", "orders", "--queue", "empty", "--allow-faults"
    )
    with tempfile.TemporaryDirectory() as folder, broker as ready:
        lab = Lab(arguments, folder, ready)
        subprocess.run(
            [arguments.sender, "--queue", "orders", "--messages", str(MESSAGES)],
            env={"SERVICEBUS_CONNECTION_STR": lab.connection_string}, check=True, timeout=30,
        )
        lab.prepare()
        yield [
            (f"troubleshooting: {check.__name__.replace('_', ' ')}", lambda check=check: check(lab))
            for check in (the_commands_print_what_is_shown, the_log_says_what_is_shown, what_is_not_shown_is_noticed)
        ]
