#!/usr/bin/env python3
"""grpcurl against our scaler, as a person would use it: everything by reflection, no proto file.

Lists the services, calls all five RPCs and the health service with a broker behind the scaler, meets the errors that
KEDA relies on, and runs the lines of the README and of docs/troubleshooting.md as they stand there.
Usage: grpcurl.py --grpcurl PATH --broker PATH --scaler PATH --sender PATH --readme FILE --troubleshooting FILE
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile

import documented
import troubleshooting
from programs import Failed, expect, in_time, run_checks, run_program, started

SERVICE = "externalscaler.ExternalScaler"
RPCS = ["GetMetricSpec", "GetMetrics", "IsActive", "StreamIsActive", "StreamMetricSpec"]
MESSAGES, PER_REPLICA = 12, 5
CALL_SECONDS = 30


class Scaler:
    """The scaler with a broker behind it, and grpcurl in front."""

    def __init__(self, grpcurl, address, connection_string, readme):
        self.grpcurl = grpcurl
        self.address = address
        self.connection_string = connection_string
        self.readme = readme

    def run(self, *arguments):
        return in_time(lambda: subprocess.run(
            [self.grpcurl, "-plaintext", *arguments], capture_output=True, text=True, timeout=CALL_SECONDS, check=False
        ))

    def ask(self, *arguments):
        """Standard output of a call that must succeed."""
        done = self.run(*arguments)
        if done.returncode != 0:
            raise Failed(f"grpcurl {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def reference(self, **metadata):
        wanted = {"queueName": "orders", "messageCount": str(PER_REPLICA), "connectionFromEnv": self.connection_string}
        return {"name": "receiver", "namespace": "demo", "scalerMetadata": {**wanted, **metadata}}

    def call(self, method, request):
        return json.loads(self.ask("-d", json.dumps(request), self.address, f"{SERVICE}/{method}"))

    def first_of_stream(self, method, request):
        """The first message of a stream, which must then still be open."""
        command = [self.grpcurl, "-plaintext", "-max-time", str(CALL_SECONDS), "-d", json.dumps(request)]
        command += [self.address, f"{SERVICE}/{method}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as stream:
            said = ""
            for line in stream.stdout:
                said += line
                try:
                    message = json.loads(said)
                except ValueError:
                    continue
                expect(stream.poll(), None, f"{method} stays open, its end")
                stream.kill()
                return message
        raise Failed(f"{method} ended without a message: {said}")

    def refused(self, method, request, code):
        """The message of a call that must fail with this gRPC code."""
        done = self.run("-d", json.dumps(request), self.address, f"{SERVICE}/{method}")
        if done.returncode == 0 or f"Code: {code}" not in done.stderr:
            raise Failed(f"{method} was to fail with {code}: {done.stdout.strip()} {done.stderr.strip()}")
        return done.stderr


def reflection_lists_the_services(scaler):
    services = scaler.ask(scaler.address, "list").split()
    for wanted in (SERVICE, "grpc.health.v1.Health"):
        expect(wanted in services, True, f"{wanted} among {services}")
    expect(sorted(scaler.ask(scaler.address, "list", SERVICE).split()), [f"{SERVICE}.{rpc}" for rpc in RPCS], "its RPCs")


def reflection_describes_the_contract(scaler):
    text = scaler.ask(scaler.address, "describe", "externalscaler.MetricSpec")
    for field in ("string metricName = 1", "int64 targetSize = 2", "double targetSizeFloat = 3"):
        # protoc's JSON spelling or the proto's own: the number and the type are what counts.
        expect(field in text, True, f"{field!r} in {text!r}")


def health_says_serving(scaler):
    for service in ("", SERVICE):
        done = scaler.ask("-d", json.dumps({"service": service}), scaler.address, "grpc.health.v1.Health/Check")
        expect(json.loads(done)["status"], "SERVING", f"health of {service!r}")


def get_metric_spec_gives_the_target(scaler):
    (spec,) = scaler.call("GetMetricSpec", scaler.reference())["metricSpecs"]
    expect(spec["metricName"], "azure-servicebus-orders", "metric name")
    expect(int(spec["targetSize"]), PER_REPLICA, "target")
    expect(spec["targetSizeFloat"], PER_REPLICA, "target as a float")


def get_metrics_gives_the_count(scaler):
    request = {"scaledObjectRef": scaler.reference(), "metricName": "azure-servicebus-orders"}
    (value,) = scaler.call("GetMetrics", request)["metricValues"]
    expect(value["metricName"], "azure-servicebus-orders", "metric name")
    expect(int(value["metricValue"]), MESSAGES, "value")
    expect(value["metricValueFloat"], MESSAGES, "value as a float")


def get_metrics_follows_the_policy(scaler):
    reference = scaler.reference(policy="weighted", weights="active=0.5,scheduled=0,deadLetter=0,transfer=0")
    request = {"scaledObjectRef": reference, "metricName": "azure-servicebus-orders"}
    (value,) = scaler.call("GetMetrics", request)["metricValues"]
    expect(value["metricValueFloat"], MESSAGES / 2, "value, half of each message")


def is_active_is_strictly_greater(scaler):
    expect(scaler.call("IsActive", scaler.reference()).get("result", False), True, "active with messages")
    at_the_limit = scaler.reference(activationMessageCount=str(MESSAGES))
    expect(scaler.call("IsActive", at_the_limit).get("result", False), False, "active at exactly activationMessageCount")


def an_empty_queue_is_inactive_and_zero(scaler):
    reference = scaler.reference(queueName="empty")
    expect(scaler.call("IsActive", reference).get("result", False), False, "active without messages")
    request = {"scaledObjectRef": reference, "metricName": "azure-servicebus-empty"}
    (value,) = scaler.call("GetMetrics", request)["metricValues"]
    expect((value.get("metricValue", "0"), value.get("metricValueFloat", 0)), ("0", 0), "value")


def stream_is_active_tells_the_state_at_once(scaler):
    expect(scaler.first_of_stream("StreamIsActive", scaler.reference()).get("result", False), True, "first message")


def stream_metric_spec_agrees_with_get_metric_spec(scaler):
    streamed = scaler.first_of_stream("StreamMetricSpec", scaler.reference())
    expect(streamed, scaler.call("GetMetricSpec", scaler.reference()), "first message")


def errors_have_the_right_code_and_name_the_fault(scaler):
    def metrics(reference):
        queue = reference["scalerMetadata"]["queueName"]
        return {"scaledObjectRef": reference, "metricName": f"azure-servicebus-{queue}"}

    for request, code, named in [
        (metrics(scaler.reference(messageCount="0")), "InvalidArgument", "messageCount"),
        (metrics(scaler.reference(policy="golden")), "InvalidArgument", "golden"),
        (metrics(scaler.reference(queueName="nowhere")), "NotFound", "nowhere"),
    ]:
        said = scaler.refused("GetMetrics", request, code)
        expect(named in said, True, f"{named!r} in {said!r}")
        key = scaler.connection_string.split("SharedAccessKey=")[1].split(";")[0]
        expect(key in said, False, "the key in an error")
    # A reading that cannot be had is an error, never a 0: KEDA then holds the replicas.
    nobody = scaler.connection_string.replace(scaler.connection_string.split(";")[0], "Endpoint=sb://127.0.0.1:1")
    scaler.refused("GetMetrics", metrics(scaler.reference(connectionFromEnv=nobody)), "Unavailable")
    scaler.refused("IsActive", scaler.reference(connectionFromEnv=nobody), "Unavailable")
    # But the target needs no Service Bus: KEDA's fallback only counts once it has it.
    scaler.call("GetMetricSpec", scaler.reference(connectionFromEnv=nobody))


def the_lines_of_the_readme_work(scaler):
    block = next((block for block in scaler.readme.split("```") if "\ngrpcurl " in block), "")
    lines = block.splitlines()
    prepared = "\n".join(line for line in lines if re.match(r"[A-Z]+=", line))
    lines = [documented.with_patience(line) for line in lines if line.startswith("grpcurl ")]
    commands = [line.replace("127.0.0.1:6000", scaler.address) for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.abspath(scaler.grpcurl), os.path.join(folder, "grpcurl"))
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "SERVICEBUS_CONNECTION_STR": scaler.connection_string}
        for command in commands:
            script = f"{prepared}\n{command}"
            done = in_time(lambda script=script: subprocess.run(
                ["bash", "-euc", script],
                env=environment, capture_output=True, text=True, timeout=CALL_SECONDS, check=False,
            ))
            is_stream = "-max-time" in command
            expect("DeadlineExceeded" in done.stderr if is_stream else done.returncode == 0, True, f"{command}: {done.stderr}")
            expect(done.stdout.strip() != "", True, f"{command} printed something")
    called = {rpc for rpc in RPCS if any(f"/{rpc}" in command for command in commands)}
    expect(called, set(RPCS), "RPCs that the README calls")


CHECKS = [
    reflection_lists_the_services,
    reflection_describes_the_contract,
    health_says_serving,
    get_metric_spec_gives_the_target,
    get_metrics_gives_the_count,
    get_metrics_follows_the_policy,
    is_active_is_strictly_greater,
    an_empty_queue_is_inactive_and_zero,
    stream_is_active_tells_the_state_at_once,
    stream_metric_spec_agrees_with_get_metric_spec,
    errors_have_the_right_code_and_name_the_fault,
    the_lines_of_the_readme_work,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for program in ("grpcurl", "broker", "scaler", "sender"):
        parser.add_argument(f"--{program}", required=True, help=f"the binary of {program}")
    parser.add_argument("--readme", required=True, type=pathlib.Path, help="the README with the lines to run")
    parser.add_argument("--troubleshooting", required=True, type=pathlib.Path, help="docs/troubleshooting.md")
    arguments = parser.parse_args()
    broker = started(arguments.broker, "--listen", "127.0.0.1:0", "--queue", "orders", "--queue", "empty")
    with broker as ready, started(arguments.scaler, "serve", "--listen", "127.0.0.1:0") as served:
        connection_string = ready["connectionString"]
        subprocess.run(
            [arguments.sender],
            env={
                "SERVICEBUS_CONNECTION_STR": connection_string,
                "SERVICEBUS_QUEUE_NAME": "orders",
                "NR_MESSAGES": str(MESSAGES),
            },
            check=True,
            timeout=30,
        )
        readme = arguments.readme.read_text(encoding="utf-8")
        scaler = Scaler(arguments.grpcurl, served["listen"][0], connection_string, readme)
        checks = [(check.__name__.replace("_", " "), lambda check=check: check(scaler)) for check in CHECKS]
        with troubleshooting.checks(arguments) as more:
            return run_checks(checks + more)


if __name__ == "__main__":
    run_program(main)
