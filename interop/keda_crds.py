#!/usr/bin/env python3
"""Our objects of KEDA's kinds against KEDA's own CRDs, from KEDA's released Go module, as strictly as the API server does it.

Files may hold other kinds too, which are passed over; a kind in KEDA's own API group that has no CRD is a mistake. The
API server prunes unknown fields with a warning; here they are errors. CEL rules (`x-kubernetes-validations`) need an API
server to run; the one that the ScaledObject of 2.21 has is written out below, and one that is not stops the check.
Usage: keda_crds.py --crds DIR FILE...
"""

import argparse
import copy
import pathlib

import jsonschema
import yaml

from programs import Failed, expect, run_checks, run_program

# KEDA's CEL rules by their text, in Python.
RULES = {
    "!has(self.minReplicaCount) || self.minReplicaCount <= (has(self.maxReplicaCount) ? self.maxReplicaCount : 100)":
        lambda spec: spec.get("minReplicaCount", 0) <= spec.get("maxReplicaCount", 100),
}

GROUP = "keda.sh"

INTEGERS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def strict(schema):
    """A structural schema as JSON Schema that refuses unknown fields and numbers out of range."""
    schema = copy.copy(schema)
    for validation in schema.get("x-kubernetes-validations", []):
        if validation["rule"] not in RULES:
            raise Failed(f"the CRD has a CEL rule that is not known here: {validation['rule']}")
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("anyOf", None)
        schema["type"] = ["integer", "string"]
    if schema.pop("nullable", False) and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    if schema.get("format") in INTEGERS:
        least, most = INTEGERS[schema["format"]]
        schema.setdefault("minimum", least)
        schema.setdefault("maximum", most)
    if "properties" in schema:
        schema["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        schema["items"] = strict(schema["items"])
    return schema


def validators(folder):
    """A validator for every (apiVersion, kind) among the CRDs in a folder."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        crd = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = crd["spec"]["names"]
        for version in crd["spec"]["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            # The API server checks these two against what was asked for; their own schema is any text.
            schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            key = (f"{crd['spec']['group']}/{version['name']}", names["kind"])
            if crd["spec"]["group"] == GROUP:
                found[key] = Validator(strict(schema))
    return found


def follows_rules(_validator, validations, instance, _schema):
    for validation in validations:
        if isinstance(instance, dict) and not RULES[validation["rule"]](instance):
            yield jsonschema.ValidationError(validation["message"])


Validator = jsonschema.validators.extend(
    jsonschema.Draft7Validator, {"x-kubernetes-validations": follows_rules}
)


def is_of_keda(document):
    """Whether the kind is KEDA's, known or not; `apiVersion: v1` is of the group without a name."""
    group, _, _version = document.get("apiVersion", "").rpartition("/")
    return group == GROUP or group.endswith(f".{GROUP}")


def problems(validators_by_kind, document):
    validator = validators_by_kind.get((document.get("apiVersion"), document.get("kind")))
    if validator is None:
        return [f"there is no CRD for {document.get('apiVersion')} {document.get('kind')}"]
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(document)]


def of_keda(path):
    """The documents of a file that are of KEDA's kinds."""
    documents = [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
    return [document for document in documents if is_of_keda(document)]


def a_file_fits(validators_by_kind, path):
    documents = of_keda(path)
    expect(len(documents), 1, "documents of KEDA's kinds in the file")
    expect(problems(validators_by_kind, documents[0]), [], "problems")


def every_kind_is_met(files):
    """That nothing is passed over by mistake: of each kind that we offer there was one."""
    kinds = {document["kind"] for path in files for document in of_keda(path)}
    expect(kinds, {"ScaledObject", "ScaledJob", "ClusterTriggerAuthentication"}, "kinds in the files")


def damages_are_noticed(validators_by_kind, files):
    by_kind = {document["kind"]: document for path in files for document in of_keda(path)}
    sound = yaml.safe_load(files[0].read_text(encoding="utf-8"))
    expect((sound["kind"], problems(validators_by_kind, sound)), ("ScaledObject", []), "the first file, undamaged")

    def behavior(spec):
        return spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]

    for what, damage in {
        "an unknown field": lambda spec: spec.update(pollingIntervall=5),
        "an unknown field far down": lambda spec: behavior(spec)["scaleUp"].update(stabilizationWindow=5),
        "a wrong type": lambda spec: spec.update(pollingInterval="5s"),
        "a bare number in metadata": lambda spec: spec["triggers"][0]["metadata"].update(messageCount=5),
        "no triggers": lambda spec: spec.pop("triggers"),
        "no type": lambda spec: spec["triggers"][0].pop("type"),
        "metadata beside metadata": lambda spec: spec["triggers"][0].update(queueName="orders"),
        "a minimum above the maximum": lambda spec: spec.update(minReplicaCount=11),
        "a number out of range": lambda spec: spec.update(maxReplicaCount=2**31),
    }.items():
        document = copy.deepcopy(sound)
        damage(document["spec"])
        if not problems(validators_by_kind, document):
            raise Failed(f"{what} was not noticed")
    for kind, what, damage in [
        ("ScaledJob", "an unknown field of a Job's pod", lambda it: pod(it).update(restartPolice="Never")),
        ("ScaledJob", "no Job", lambda it: it["spec"].pop("jobTargetRef")),
        ("ClusterTriggerAuthentication", "an unknown field", lambda it: it["spec"].update(secretTargetReference=[])),
        ("ClusterTriggerAuthentication", "no key", lambda it: it["spec"]["secretTargetRef"][0].pop("key")),
        ("ScaledJob", "a kind that KEDA has not", lambda it: it.update(kind="ScaledCronJob")),
        ("ScaledJob", "a version that KEDA has not", lambda it: it.update(apiVersion="keda.sh/v1")),
    ]:
        document = copy.deepcopy(by_kind[kind])
        damage(document)
        if not (is_of_keda(document) and problems(validators_by_kind, document)):
            raise Failed(f"{kind}: {what} was not noticed")


def pod(scaled_job):
    return scaled_job["spec"]["jobTargetRef"]["template"]["spec"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crds", required=True, help="KEDA's config/crd/bases")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    found = validators(arguments.crds)
    files = [path for path in arguments.files if path.name != "kustomization.yaml"]
    checks = [(f"{path} fits KEDA's CRD", lambda path=path: a_file_fits(found, path)) for path in files]
    checks.append(("every kind is among them", lambda: every_kind_is_met(files)))
    checks.append(("damaged ones do not fit", lambda: damages_are_noticed(found, files)))
    return run_checks(checks)


if __name__ == "__main__":
    run_program(main)
