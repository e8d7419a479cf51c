"""Sends the requests of the 2020 system's clients and prints the responses as JSON."""

import json
import sys

import requests

server, *fields = sys.argv[1:]
answer = requests.post(server, data=dict(field.split("=", 1) for field in fields), timeout=300)
print(
    json.dumps(
        {
            "status": answer.status_code,
            "type": answer.headers["Content-Type"],
            "text": answer.text,
            "json": list(answer.json().items()),
        }
    )
)
