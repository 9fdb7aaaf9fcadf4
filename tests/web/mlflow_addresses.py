"""Every address of the MLflow that is installed, and what the proxy makes of it.

A new release of MLflow makes the walk in test_mlflow_addresses.py fail: read what the new address
does and enter it here. `2.0/` and `3.0/` stand for both names of an API, /api and /ajax-api.
"""

from mlops_portal.mlflow_addresses import Kind

FORWARDED = {
    Kind.OPEN: """
        GET /
        GET /health
        GET /static-files/PATH
        GET /version
        GET 2.0/mlflow/experiments/get
        GET 2.0/mlflow/experiments/get-by-name
        GET,POST 2.0/mlflow/experiments/search
        POST 2.0/mlflow/experiments/search-datasets
        POST 2.0/mlflow/logged-models/search
        GET 2.0/mlflow/model-versions/search
        GET 2.0/mlflow/registered-models/search
        POST 2.0/mlflow/runs/search
        GET 2.0/mlflow/traces
        GET 2.0/mlflow/traces/ID/info
        GET 3.0/mlflow/datasets/ID
        GET 3.0/mlflow/datasets/ID/experiment-ids
        GET 3.0/mlflow/datasets/ID/records
        GET,POST 3.0/mlflow/datasets/search
        GET 3.0/mlflow/server-info
        GET 3.0/mlflow/traces/ID
        GET 3.0/mlflow/traces/ID/assessments/ID
        GET 3.0/mlflow/traces/batchGet
        POST 3.0/mlflow/traces/batchGetInfos
        POST 3.0/mlflow/traces/calculate-filter-correlation
        GET 3.0/mlflow/traces/get
        POST 3.0/mlflow/traces/metrics
        POST 3.0/mlflow/traces/search
    """,
    Kind.READ: """
        GET /get-artifact
        POST /graphql
        GET /model-versions/get-artifact
        GET 2.0/mlflow-artifacts/artifacts
        GET 2.0/mlflow-artifacts/artifacts/PATH
        GET 2.0/mlflow-artifacts/presigned/PATH
        GET 2.0/mlflow/artifacts/list
        POST 2.0/mlflow/artifacts/presigned-download-url
        GET 2.0/mlflow/get-trace-artifact
        GET 2.0/mlflow/logged-models/ID
        GET 2.0/mlflow/logged-models/ID/artifacts/directories
        GET 2.0/mlflow/logged-models/ID/artifacts/files
        GET 2.0/mlflow/metrics/get-history
        GET 2.0/mlflow/metrics/get-history-bulk
        GET 2.0/mlflow/metrics/get-history-bulk-interval
        GET 2.0/mlflow/model-versions/get
        GET 2.0/mlflow/model-versions/get-download-uri
        GET 2.0/mlflow/registered-models/alias
        GET 2.0/mlflow/registered-models/get
        GET,POST 2.0/mlflow/registered-models/get-latest-versions
        GET 2.0/mlflow/runs/get
        GET 3.0/mlflow/get-trace-artifact
    """,
    Kind.WRITE: """
        POST 2.0/mlflow/artifacts/presigned-upload-url
        POST 2.0/mlflow/experiments/create
        POST 2.0/mlflow/experiments/delete
        POST 2.0/mlflow/experiments/delete-experiment-tag
        POST 2.0/mlflow/experiments/restore
        POST 2.0/mlflow/experiments/set-experiment-tag
        POST 2.0/mlflow/experiments/update
        POST 2.0/mlflow/logged-models
        DELETE,PATCH 2.0/mlflow/logged-models/ID
        POST 2.0/mlflow/logged-models/ID/params
        PATCH 2.0/mlflow/logged-models/ID/tags
        DELETE 2.0/mlflow/logged-models/ID/tags/ID
        POST 2.0/mlflow/model-versions/create
        DELETE 2.0/mlflow/model-versions/delete
        DELETE 2.0/mlflow/model-versions/delete-tag
        POST 2.0/mlflow/model-versions/set-tag
        POST 2.0/mlflow/model-versions/transition-stage
        PATCH 2.0/mlflow/model-versions/update
        POST 2.0/mlflow/registered-models/create
        DELETE 2.0/mlflow/registered-models/delete
        DELETE 2.0/mlflow/registered-models/delete-tag
        POST 2.0/mlflow/registered-models/rename
        POST 2.0/mlflow/registered-models/set-tag
        PATCH 2.0/mlflow/registered-models/update
        POST 2.0/mlflow/runs/create
        POST 2.0/mlflow/runs/delete
        POST 2.0/mlflow/runs/delete-tag
        POST 2.0/mlflow/runs/log-batch
        POST 2.0/mlflow/runs/log-inputs
        POST 2.0/mlflow/runs/log-metric
        POST 2.0/mlflow/runs/log-model
        POST 2.0/mlflow/runs/log-parameter
        POST 2.0/mlflow/runs/outputs
        POST 2.0/mlflow/runs/restore
        POST 2.0/mlflow/runs/set-tag
        POST 2.0/mlflow/runs/update
        POST 2.0/mlflow/traces
        PATCH 2.0/mlflow/traces/ID
        DELETE,PATCH 2.0/mlflow/traces/ID/tags
        POST 2.0/mlflow/traces/delete-traces
        POST 2.0/mlflow/traces/link-prompts
        POST 2.0/mlflow/traces/link-to-run
        POST 3.0/mlflow/traces
        POST 3.0/mlflow/traces/ID/assessments
        DELETE,PATCH 3.0/mlflow/traces/ID/assessments/ID
        DELETE,PATCH 3.0/mlflow/traces/ID/tags
        POST 3.0/mlflow/traces/delete-traces
    """,
    Kind.STREAM: """
        POST /v1/traces
        DELETE,PUT 2.0/mlflow-artifacts/artifacts/PATH
        POST 2.0/mlflow-artifacts/mpu/abort/PATH
        POST 2.0/mlflow-artifacts/mpu/complete/PATH
        POST 2.0/mlflow-artifacts/mpu/create/PATH
        POST 2.0/mlflow/upload-artifact
        DELETE 3.0/mlflow/datasets/ID
        POST 3.0/mlflow/datasets/ID/add-experiments
        DELETE,POST 3.0/mlflow/datasets/ID/records
        POST 3.0/mlflow/datasets/ID/remove-experiments
        PATCH 3.0/mlflow/datasets/ID/tags
        DELETE 3.0/mlflow/datasets/ID/tags/ID
        POST 3.0/mlflow/datasets/create
    """,
    Kind.ADMIN: """
        GET,POST 2.0/mlflow/webhooks
        DELETE,GET,PATCH 2.0/mlflow/webhooks/ID
        POST 2.0/mlflow/webhooks/ID/test
    """,
}
REFUSED = {
    "the assistant: its Bash tool runs commands with the server's environment": """
        GET,PUT 3.0/mlflow/assistant/config
        POST 3.0/mlflow/assistant/message
        GET 3.0/mlflow/assistant/providers
        GET 3.0/mlflow/assistant/providers/ID/health
        GET 3.0/mlflow/assistant/providers/ID/models
        PATCH 3.0/mlflow/assistant/sessions/ID
        POST 3.0/mlflow/assistant/sessions/ID/permission
        GET 3.0/mlflow/assistant/sessions/ID/stream
        POST 3.0/mlflow/assistant/sessions/ID/tool-result
        POST 3.0/mlflow/assistant/skills/install
    """,
    "the gateway: the server calls whatever address is configured, with stored keys": """
        POST /gateway/ID/mlflow/invocations
        POST /gateway/anthropic/v1/messages
        POST /gateway/gemini/v1beta/models/ID:generateContent
        POST /gateway/gemini/v1beta/models/ID:streamGenerateContent
        POST /gateway/mlflow/v1/chat/completions
        GET /gateway/mlflow/v1/models
        POST /gateway/openai/v1/chat/completions
        POST /gateway/openai/v1/embeddings
        POST /gateway/openai/v1/responses
        POST /gateway/openai/v1/responses/compact
        POST /gateway/proxy/ID/PATH
        POST /gateway/typesafe/v1/systemone
        GET,POST 2.0/mlflow/gateway-proxy
        POST 3.0/mlflow/gateway/budgets/create
        DELETE 3.0/mlflow/gateway/budgets/delete
        GET 3.0/mlflow/gateway/budgets/get
        GET 3.0/mlflow/gateway/budgets/list
        POST 3.0/mlflow/gateway/budgets/update
        GET 3.0/mlflow/gateway/budgets/windows
        POST 3.0/mlflow/gateway/endpoints/bindings/create
        DELETE 3.0/mlflow/gateway/endpoints/bindings/delete
        GET 3.0/mlflow/gateway/endpoints/bindings/list
        POST 3.0/mlflow/gateway/endpoints/create
        DELETE 3.0/mlflow/gateway/endpoints/delete
        DELETE 3.0/mlflow/gateway/endpoints/delete-tag
        GET 3.0/mlflow/gateway/endpoints/get
        GET 3.0/mlflow/gateway/endpoints/list
        POST 3.0/mlflow/gateway/endpoints/models/attach
        POST 3.0/mlflow/gateway/endpoints/models/detach
        POST 3.0/mlflow/gateway/endpoints/set-tag
        POST 3.0/mlflow/gateway/endpoints/update
        POST 3.0/mlflow/gateway/guardrails/add-to-endpoint
        POST 3.0/mlflow/gateway/guardrails/create
        DELETE 3.0/mlflow/gateway/guardrails/delete
        GET 3.0/mlflow/gateway/guardrails/get
        GET 3.0/mlflow/gateway/guardrails/list
        GET 3.0/mlflow/gateway/guardrails/list-for-endpoint
        DELETE 3.0/mlflow/gateway/guardrails/remove-from-endpoint
        PATCH 3.0/mlflow/gateway/guardrails/update-config
        POST 3.0/mlflow/gateway/model-definitions/create
        DELETE 3.0/mlflow/gateway/model-definitions/delete
        GET 3.0/mlflow/gateway/model-definitions/get
        GET 3.0/mlflow/gateway/model-definitions/list
        POST 3.0/mlflow/gateway/model-definitions/update
        GET 3.0/mlflow/gateway/provider-config
        GET 3.0/mlflow/gateway/secrets/config
        POST 3.0/mlflow/gateway/secrets/create
        DELETE 3.0/mlflow/gateway/secrets/delete
        GET 3.0/mlflow/gateway/secrets/get
        GET 3.0/mlflow/gateway/secrets/list
        POST 3.0/mlflow/gateway/secrets/update
        GET 3.0/mlflow/gateway/supported-models
        GET 3.0/mlflow/gateway/supported-providers
    """,
    "jobs, scorers, evaluation: the server runs what it is sent": """
        POST 2.0/mlflow/runs/create-promptlab-run
        POST 3.0/jobs/
        GET 3.0/jobs/ID
        PATCH 3.0/jobs/cancel/ID
        POST 3.0/jobs/search
        POST 3.0/mlflow/genai/evaluate/invoke
        POST 3.0/mlflow/issues/invoke
        GET 3.0/mlflow/jobs/ID
        PATCH 3.0/mlflow/jobs/cancel/ID
        POST 3.0/mlflow/prompt-optimization/jobs
        DELETE,GET 3.0/mlflow/prompt-optimization/jobs/ID
        POST 3.0/mlflow/prompt-optimization/jobs/ID/cancel
        GET,POST 3.0/mlflow/prompt-optimization/jobs/search
        POST 3.0/mlflow/scorer/invoke
        DELETE 3.0/mlflow/scorers/delete
        GET 3.0/mlflow/scorers/get
        GET 3.0/mlflow/scorers/list
        PUT 3.0/mlflow/scorers/online-config
        GET 3.0/mlflow/scorers/online-configs
        POST 3.0/mlflow/scorers/register
        GET 3.0/mlflow/scorers/versions
    """,
    "MCP servers: addresses that others will call": """
        GET,POST 3.0/mlflow/mcp-servers
        DELETE,GET,PATCH 3.0/mlflow/mcp-servers/PATH
        POST 3.0/mlflow/mcp-servers/PATH/aliases
        DELETE,GET 3.0/mlflow/mcp-servers/PATH/aliases/PATH
        GET,POST 3.0/mlflow/mcp-servers/PATH/endpoints
        DELETE,GET,PATCH 3.0/mlflow/mcp-servers/PATH/endpoints/ID
        POST 3.0/mlflow/mcp-servers/PATH/tags
        DELETE 3.0/mlflow/mcp-servers/PATH/tags/PATH
        GET,POST 3.0/mlflow/mcp-servers/PATH/versions
        DELETE,GET,PATCH 3.0/mlflow/mcp-servers/PATH/versions/PATH
        POST 3.0/mlflow/mcp-servers/PATH/versions/PATH/tags
        DELETE 3.0/mlflow/mcp-servers/PATH/versions/PATH/tags/PATH
        GET 3.0/mlflow/mcp-servers/endpoints
    """,
    "who uses the server, and where it keeps things": """
        POST 3.0/mlflow/demo/delete
        POST 3.0/mlflow/demo/generate
        GET,POST 3.0/mlflow/ui-telemetry
        GET,POST 3.0/mlflow/workspaces
        DELETE,GET,PATCH 3.0/mlflow/workspaces/ID
    """,
    "the panel's own business": """
        DELETE,POST 2.0/mlflow/registered-models/alias
    """,
    "annotation for language models, which no client of ours needs": """
        POST 3.0/mlflow/issues
        GET,PATCH 3.0/mlflow/issues/ID
        POST 3.0/mlflow/issues/search
        POST 3.0/mlflow/label-schemas/create
        DELETE 3.0/mlflow/label-schemas/delete
        GET 3.0/mlflow/label-schemas/get
        GET 3.0/mlflow/label-schemas/get-by-name
        GET 3.0/mlflow/label-schemas/list
        PATCH 3.0/mlflow/label-schemas/update
        POST 3.0/mlflow/review-queues/create
        POST 3.0/mlflow/review-queues/delete
        GET 3.0/mlflow/review-queues/get
        GET 3.0/mlflow/review-queues/get-by-name
        POST 3.0/mlflow/review-queues/get-or-create-user
        POST 3.0/mlflow/review-queues/items/add
        GET 3.0/mlflow/review-queues/items/list
        POST 3.0/mlflow/review-queues/items/remove
        POST 3.0/mlflow/review-queues/items/set-status
        GET 3.0/mlflow/review-queues/list
        POST 3.0/mlflow/review-queues/update
    """,
    "MLflow itself answers these with an error": """
        GET /graphql
        GET 2.0/mlflow/get-online-trace-details
        GET 2.0/mlflow/unified-traces
        POST 2.0mlflow/experiments/search-datasets
    """,
}
# Not behind the prefix under which MLflow is reached, so no call through the proxy finds them.
OUTSIDE = """
    GET /build/PATH
    GET,PUT 2.0/mlflow-artifacts/artifacts/PATH
"""
