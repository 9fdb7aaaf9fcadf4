"""Which of MLflow's addresses the proxy forwards, and what each does.

A list of what passes and not of what is refused: MLflow also has addresses that run commands, for
whoever comes from loopback, and its next release may have more.
"""

import re
from enum import Enum
from urllib.parse import unquote

MOST_LEVELS = 10  # of percent signs that MLflow undoes


class Kind(Enum):
    """What a call does, and so what is asked of who makes it."""

    OPEN = "open"  # reads what is no team's, or lists what all teams have
    READ = "read"  # reads what it names
    WRITE = "write"  # changes what its address and its JSON name
    STREAM = "stream"  # changes what its address names; the body is a file, or rows
    ADMIN = "admin"


EDITIONS = {"2:": "2.0/mlflow/", "3:": "3.0/mlflow/", "files:": "2.0/mlflow-artifacts/"}


def addresses(*lines: str) -> re.Pattern[str]:
    """It matches "METHOD /address", without our prefix, when one of the lines does.

    An edition stands for both of its names: MLflow's client says api, its pages say ajax-api.
    """
    text = "|".join(lines).replace("ID", r"[\w.: -]+")
    for word, edition in EDITIONS.items():
        text = text.replace(word, "/(ajax-)?api/" + re.escape(edition))
    return re.compile(text)


FORWARDED = {
    Kind.OPEN: addresses(
        r"GET /?",
        r"GET /(health|version)",
        r"GET /static-files/.+",
        r"GET 3:server-info",
        r"GET 2:experiments/(get|get-by-name|search)",
        r"POST 2:(experiments|runs|logged-models)/search",
        r"POST 2:experiments/search-datasets",
        r"GET 2:(registered-models|model-versions)/search",
        r"GET 2:traces(/ID/info)?",
        r"GET 3:traces/ID(/assessments/ID)?",
        r"POST 3:traces/(search|metrics|batchGetInfos|calculate-filter-correlation)",
        r"(GET|POST) 3:datasets/search",
        r"GET 3:datasets/ID(/experiment-ids|/records)?",
    ),
    Kind.READ: addresses(
        r"GET 2:runs/get",
        r"GET 2:metrics/get-history(-bulk|-bulk-interval)?",
        r"GET 2:artifacts/list",
        r"POST 2:artifacts/presigned-download-url",
        r"GET 2:registered-models/(get|alias)",
        r"(GET|POST) 2:registered-models/get-latest-versions",
        r"GET 2:model-versions/(get|get-download-uri)",
        r"GET 2:logged-models/ID(/artifacts/(directories|files))?",
        r"GET 2:get-trace-artifact",
        r"GET 3:get-trace-artifact",
        r"GET files:(artifacts(/.+)?|presigned/.+)",
        r"GET (/model-versions)?/get-artifact",
        r"POST /graphql",
    ),
    Kind.WRITE: addresses(
        r"POST 2:experiments/(create|update|delete|restore|(set|delete)-experiment-tag)",
        r"POST 2:runs/(create|update|delete|restore|outputs|(set|delete)-tag)",
        r"POST 2:runs/log-(batch|inputs|metric|model|parameter)",
        r"POST 2:registered-models/(create|rename|set-tag)",
        r"PATCH 2:registered-models/update",
        r"DELETE 2:registered-models/delete(-tag)?",
        r"POST 2:model-versions/(create|set-tag|transition-stage)",
        r"PATCH 2:model-versions/update",
        r"DELETE 2:model-versions/delete(-tag)?",
        r"POST 2:logged-models(/ID/params)?",
        r"PATCH 2:logged-models/ID(/tags)?",
        r"DELETE 2:logged-models/ID(/tags/ID)?",
        r"POST 2:artifacts/presigned-upload-url",
        r"POST 2:traces(/delete-traces|/link-prompts|/link-to-run)?",
        r"PATCH 2:traces/ID(/tags)?",
        r"DELETE 2:traces/ID/tags",
        r"POST 3:traces(/delete-traces|/ID/assessments)?",
        r"(PATCH|DELETE) 3:traces/ID/(tags|assessments/ID)",
    ),
    Kind.STREAM: addresses(
        r"(PUT|DELETE) files:artifacts/.+",
        r"POST files:mpu/(create|complete|abort)/.+",
        r"POST 2:upload-artifact",
        r"POST /v1/traces",
        r"POST 3:datasets/(create|ID/(records|add-experiments|remove-experiments))",
        r"PATCH 3:datasets/ID/tags",
        r"DELETE 3:datasets/ID(/records|/tags/ID)?",
    ),
    Kind.ADMIN: addresses(
        r"(GET|POST) 2:webhooks",
        r"(GET|PATCH|DELETE) 2:webhooks/ID",
        r"POST 2:webhooks/ID/test",
    ),
}
ALIASING = addresses(r"(POST|DELETE) 2:registered-models/alias")
OF_A_MODEL = addresses(
    r"[A-Z]+ 2:(registered-models|model-versions)/.+", r"GET /model-versions/get-artifact"
)
OF_ALL_IN_IT = addresses(r"POST 2:experiments/(update|delete)")
DELETING_FILES = addresses(r"DELETE files:artifacts/.+")
HEX = "[0-9a-f]{32}"  # a run's id, or a logged model's behind "m-"
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
CROOKED = re.compile(r"/ *(\.{0,2}(/|$)|file:)|[?#\x00-\x1f\x7f]", re.IGNORECASE)


def kind_of(call: str) -> Kind | None:
    """None: the call is not forwarded."""
    return next((kind for kind, lines in FORWARDED.items() if lines.fullmatch(call)), None)


def is_crooked(call: str) -> bool:
    """Whether MLflow, which cleans an artifact's path itself, could read another address."""
    _, _, path = call.partition(" ")
    levels = unquoted(path) if path.strip("/") else []
    return any(CROOKED.search(level) for level in levels)


def unquoted(text: str) -> list[str]:
    """The text at every depth of its percent signs: MLflow undoes them until none is left."""
    levels = [text]
    while len(levels) <= MOST_LEVELS and (inner := unquote(levels[-1])) != levels[-1]:
        levels.append(inner)
    return levels
