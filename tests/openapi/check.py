"""The OpenAPI document, and answers of a running server, which must be as it says.

Reads `{"document": …, "answers": [{"operation", "status", "headers", "body"}]}` on standard input;
fails with everything that is wrong. `body` is null where there is none.
"""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

# What HTTP itself says of any answer.
OF_HTTP = {"content-type", "content-length", "transfer-encoding", "date", "connection"}


class Document:
    def __init__(self, document):
        self.document = document
        self.faults = []

    def fault(self, where, what):
        self.faults.append(f"{where}: {what}")

    def resolved(self, node):
        while "$ref" in node:
            target = self.document
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def expect(self, where, value, schema):
        """The value follows the schema, formats included."""
        root = {"components": self.document["components"], "allOf": [schema]}
        formats = Draft202012Validator.FORMAT_CHECKER
        for error in Draft202012Validator(root, format_checker=formats).iter_errors(value):
            self.fault(where, f"{error.json_path} {error.message}")

    def operations(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield f"{method} {path}", operation

    # --- the document by itself ---

    def check(self):
        self.check_references("#", self.document)
        if self.faults:
            return
        for error in OpenAPIV31SpecValidator(self.document).iter_errors():
            self.fault("document", error.message)
        components = self.document["components"]
        for name, schema in components["schemas"].items():
            for example in schema.get("examples", []):
                self.expect(name, example, schema)
        for name, header in components["headers"].items():
            for example in header["schema"].get("examples", []):
                self.expect(name, example, header["schema"])
        for name, response in components["responses"].items():
            self.check_content(name, response["content"])
        for where, operation in self.operations():
            for parameter in map(self.resolved, operation["parameters"]):
                if "example" in parameter:
                    self.expect(f"{where} {parameter['name']}", parameter["example"], parameter["schema"])
            if "requestBody" in operation:
                self.check_content(f"{where} body", operation["requestBody"]["content"])
            for status, response in operation["responses"].items():
                self.check_content(f"{where} {status}", self.resolved(response).get("content", {}))

    def check_references(self, where, node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                try:
                    self.resolved(node)
                except KeyError:
                    self.fault(where, f"{node['$ref']} leads nowhere")
            node = node.items()
        elif isinstance(node, list):
            node = enumerate(node)
        else:
            return
        for step, child in node:
            self.check_references(f"{where}/{step}", child)

    def check_content(self, where, content):
        for media_type, body in content.items():
            if media_type != "application/json":
                self.fault(where, f"has {media_type}")
            examples = [example["value"] for example in body.get("examples", {}).values()]
            if "example" in body:
                examples.append(body["example"])
            if not examples:
                self.fault(where, "has no example")
            for example in examples:
                self.expect(where, example, body["schema"])

    # --- answers ---

    def check_answer(self, operation, status, headers, body):
        where = f"{operation['operationId']} {status}"
        if str(status) not in operation["responses"]:
            self.fault(where, f"is not documented: {body}")
            return
        response = self.resolved(operation["responses"][str(status)])
        documented = {name.lower(): self.resolved(header) for name, header in response["headers"].items()}
        for name, header in documented.items():
            if name in headers:
                value = headers[name]
                if header["schema"]["type"] == "integer" and value.isdigit():
                    value = int(value)
                self.expect(f"{where} {name}", value, header["schema"])
            elif header.get("required"):
                self.fault(where, f"lacks {name}")
        for name in headers.keys() - documented.keys() - OF_HTTP:
            self.fault(where, f"has {name}")
        content = response.get("content", {})
        if body is None:
            if content or "content-type" in headers:
                self.fault(where, "lacks its body")
            return
        media_type = headers["content-type"]
        if media_type not in content:
            self.fault(where, f"is {media_type}")
            return
        self.expect(where, body, content[media_type]["schema"])


def main():
    given = json.load(sys.stdin)
    document = Document(given["document"])
    document.check()
    if document.faults:
        sys.exit("\n".join(document.faults))
    by_id = {operation["operationId"]: operation for _, operation in document.operations()}
    for answer in given["answers"]:
        document.check_answer(
            by_id[answer["operation"]], answer["status"], answer["headers"], answer["body"]
        )
    if document.faults:
        sys.exit("\n".join(document.faults))


main()
