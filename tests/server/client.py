"""Posts what the clients of the system of 2020 post, and prints what comes back as JSON."""

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
